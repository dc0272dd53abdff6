import math

import pytest

from harness.records import record
from harness.records.cautions import Caution
from harness.records.recorder import Recorder

METRICS = {"loss": 1.5, "grad_norm": 2.5, "learning_rate": 0.0, "total_weights": 8.0}


@pytest.fixture
def recorder() -> Recorder:
    made = record.blank("a-run", "failed")
    made["nonfinite_steps"] = 0
    made |= {"steps": [], "warnings": []}
    made["checkpoint"]["saves"] = []
    return Recorder(made)


def test_values_go_into_their_section_and_no_other_name_is_taken(recorder: Recorder) -> None:
    recorder.note("timing", {"init_seconds": 1.0}, compile_seconds=2.0)
    timing = recorder.record["timing"]
    assert (timing["init_seconds"], timing["compile_seconds"]) == (1.0, 2.0)
    with pytest.raises(KeyError, match="timing: no such values: seconds"):
        recorder.note("timing", seconds=1.0)
    assert "seconds" not in timing
    recorder.note("prediction", anything=1.0)
    assert recorder.record["prediction"]["anything"] == 1.0


def test_what_lies_outside_of_sections_is_set_by_its_name(recorder: Recorder) -> None:
    recorder.set(status="completed", error=None)
    assert recorder.record["status"] == "completed"
    with pytest.raises(KeyError, match="no such values: state"):
        recorder.set(state="completed")


def test_a_warning_is_kept_once(recorder: Recorder) -> None:
    for _ in range(2):
        recorder.warn(Caution.UNTIMED, enough=4)
    recorder.warn(Caution.UNTIMED, enough=5)
    assert [text[-7:] for text in recorder.record["warnings"]] == ["4 steps", "5 steps"]


def test_a_step_is_kept_in_the_order_of_the_record(recorder: Recorder) -> None:
    entry = recorder.step(3, {**METRICS, "own": 4.0}, step_seconds=0.5, after_save=False)
    assert list(entry.items()) == [
        ("step", 3),
        ("loss", 1.5),
        ("grad_norm", 2.5),
        ("learning_rate", 0.0),
        ("step_seconds", 0.5),
        ("total_weights", 8.0),
        ("after_save", False),
        ("own", 4.0),
    ]
    assert recorder.record["steps"] == [entry]
    assert recorder.record["nonfinite_steps"] == 0


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_null_and_counted(
    recorder: Recorder, name: str, value: float
) -> None:
    entry = recorder.step(0, {**METRICS, name: value}, step_seconds=0.5, after_save=False)
    assert entry[name] is None
    assert recorder.record["nonfinite_steps"] == 1


BEFORE = [(0, 1.0), (1, None), (2, None), (3, 0.9)]


def test_steps_and_saves_from_before_are_taken_over_but_steps_that_run_again(
    recorder: Recorder,
) -> None:
    earlier = [{"step": step, "loss": loss, "grad_norm": 1.0} for step, loss in BEFORE]
    recorder.earlier(earlier, [])
    assert "evals" not in recorder.record
    recorder.earlier(earlier, earlier)
    assert recorder.record["steps"] == recorder.record["evals"] == earlier
    assert recorder.record["steps"][0] is not earlier[0]
    assert recorder.record["nonfinite_steps"] == 2
    recorder.rewind(2)
    assert recorder.record["steps"] == recorder.record["evals"] == earlier[:2]
    assert recorder.record["nonfinite_steps"] == 1
    recorder.save({"step": 0, "bytes": 8})
    (save,) = recorder.record["checkpoint"]["saves"]
    assert {name: value for name, value in save.items() if value is not None} == {
        "step": 0,
        "bytes": 8,
    }
    assert record.fits("saves", save)
