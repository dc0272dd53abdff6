"""What is made of two sets of records that differ in one thing."""

import pytest
from compared_records import imported, make

from harness.comparing import comparison
from harness.comparing.model import Comparison, Row, Verdict
from harness.records import figures


def verdicts(found: Comparison) -> dict[str, Verdict]:
    return {verdict.area: verdict for verdict in found.verdicts}


def row(found: Comparison, name: str) -> Row:
    (one,) = (row for row in found.rows if row.name == name)
    return one


@pytest.fixture
def twins() -> Comparison:
    return comparison.compare([make(0)], [make(1, impl="nnx")])


def test_twins_are_the_same_in_all_that_is_exact(twins: Comparison) -> None:
    assert twins.comparable
    assert not twins.differences
    assert twins.names == ("linen", "nnx")
    found = verdicts(twins)
    assert {area: one.outcome for area, one in found.items()} == dict.fromkeys(found, "same")
    assert [*found] == ["numbers", "speed", "host dispatch", "memory", "program", "checkpoints"]
    assert found["numbers"].words == (
        "the same: losses and gradient norms bit-equal over 33 steps; the same final state"
    )
    assert found["program"].words == "the same, bbbbbbbbbbbb"
    assert not twins.regressed


def test_every_figure_is_in_the_table(twins: Comparison) -> None:
    names = [one.name for one in twins.rows]
    assert names == [
        *("parameters", "final loss", "step", "tokens/s per device", "TFLOP/s per device", "MFU"),
        *("memory compiled for", "memory at peak", "compile", "first step", "checkpoint stall"),
        *("host dispatch", "JAX", "libtpu", "flax"),
    ]
    assert row(twins, "checkpoint stall").a == pytest.approx(1.6)
    assert (row(twins, "MFU").a, row(twins, "MFU").ratio) == (None, None)
    assert row(twins, "compile").ratio == 1
    assert row(twins, "compile").low is None


def test_a_rate_is_as_uncertain_as_the_time_it_follows_from() -> None:
    a, b = ([make(5 * side + n, scale=1 + n / 100) for n in range(5)] for side in range(2))
    repeats = comparison.compare(a, b)
    step, rate = row(repeats, "step"), row(repeats, "tokens/s per device")
    assert step.ratio == pytest.approx(1 / (rate.ratio or 0))
    assert step.low == pytest.approx(1 / (rate.high or 0))
    assert step.high == pytest.approx(1 / (rate.low or 0))
    assert row(comparison.compare(a[:1], b[:1]), "step").low is None


def test_a_run_without_steps_is_not_compared() -> None:
    found = comparison.compare([make()], [make() | {"steps": []}])
    assert not found.comparable
    assert row(found, "final loss").b is None


def test_repeats_that_do_not_repeat_are_told() -> None:
    odd = make()
    odd["steps"][3]["loss"] = 1.0
    found = comparison.compare([make()], [make(), odd])
    assert found.regressed
    assert any("B: its own runs differ: losses part at step 3" in one for one in found.warnings)


def test_a_run_against_itself_is_told() -> None:
    run = make(run_id="one")
    assert comparison.compare([run], [run]).warnings == ("both sides hold the run one",)


def test_the_steps_of_a_log_are_timed_but_for_three() -> None:
    samples = figures.step_samples(imported())
    assert samples == [round(seconds, 3) for seconds in figures.step_samples(make())]
    assert row(comparison.compare([imported()], [imported()]), "step").a == pytest.approx(0.07)
