import re

from compared_records import make

from harness.records import record, summary


def test_runs_stand_side_by_side_and_what_was_not_measured_is_a_dash() -> None:
    table = summary.table([make(run_id="one"), record.blank("other", "failed")])
    cells = [re.split("  +", line.strip()) for line in table.splitlines()]
    rows = {name: values for name, *values in cells}
    assert rows["status"] == ["completed", "failed"]
    assert rows["parameters"] == ["1,104,218,112", "-"]
    assert rows["first loss"] == ["10.889", "-"]
    assert rows["MFU, %"] == ["-", "-"]
    assert rows["optimised program"] == ["b" * 12, "-"]
    assert rows["memory compiled for, GiB"] == ["0.801", "-"]
    assert rows["host dispatch, ms"] == ["0.200", "-"]


def test_a_step_time_tells_its_samples() -> None:
    table = summary.table([make(seconds=[0.5] * 30)])
    (line,) = [line for line in table.splitlines() if line.startswith("step, s")]
    assert line.endswith("0.035000 (30)")
