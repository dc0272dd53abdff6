"""What is made of two sets of records that differ in one thing."""

import pytest
from compared_records import STRICT, Record, changed, imported, make, noise

from harness.comparing import comparison
from harness.comparing.model import Comparison, Limits, Row, Verdict
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
    assert {area: found[area].outcome for area in ("numbers", "memory", "program")} == {
        "numbers": "same",
        "memory": "same",
        "program": "same",
    }
    assert found["numbers"].words == (
        "losses and gradient norms bit-equal over 33 steps; the same final state"
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


def test_a_rate_is_as_uncertain_as_the_time_it_follows_from(twins: Comparison) -> None:
    step, rate = row(twins, "step"), row(twins, "tokens/s per device")
    assert step.ratio == pytest.approx(1 / (rate.ratio or 0))
    assert step.low == pytest.approx(1 / (rate.high or 0))
    assert step.high == pytest.approx(1 / (rate.low or 0))


# Speed


def speed(a: Record, b: Record, limits: Limits = STRICT) -> Verdict:
    return verdicts(comparison.compare([a], [b], limits=limits))["speed"]


def test_of_equal_runs_few_get_a_verdict_and_of_slower_ones_nearly_all() -> None:
    equal = [speed(make(2 * n), make(2 * n + 1)) for n in range(200)]
    slower = [speed(make(2 * n), make(2 * n + 1, scale=1.05)) for n in range(200)]
    assert sum(one.outcome in ("better", "worse") for one in equal) <= 10
    assert sum(one.regression for one in slower) >= 190


def test_a_slow_first_step_warm_up_and_steps_after_saves_do_not_count() -> None:
    slow = make(1)
    for number in (0, 1, 2):
        slow["steps"][number]["step_seconds"] = 1000.0
    for number in (9, 10, 20):
        slow["steps"].insert(number, slow["steps"][5] | {"step_seconds": 50.0, "after_save": True})
    assert figures.step_samples(slow) == figures.step_samples(make(1))
    found = comparison.compare([make(0)], [slow])
    assert found.speed.ratio == comparison.compare([make(0)], [make(1)]).speed.ratio


def test_a_few_steps_of_ten_times_the_time_change_no_verdict() -> None:
    spiked = noise(1)
    spiked[[4, 11, 25]] *= 10
    assert speed(make(0), make(seconds=spiked)).outcome != "worse"
    assert speed(make(0), make(seconds=spiked, scale=1.05)).outcome == "worse"
    assert speed(make(seconds=spiked), make(0, scale=1.05)).outcome == "worse"


def test_the_samples_of_a_resumed_run_are_those_of_its_last_start() -> None:
    resumed = make(0)
    resumed["timing"]["step_seconds"]["samples"] = 10  # 20 steps and 3 of warm-up were before
    assert figures.step_samples(resumed) == figures.step_samples(make(0))[-10:]
    resumed["timing"]["step_seconds"]["samples"] = 0
    assert figures.step_samples(resumed) == []


def test_too_few_steps_say_how_many_would_do() -> None:
    found = comparison.compare([make(seconds=noise(0, 3))], [make(seconds=noise(1, 3))])
    assert verdicts(found)["speed"].outcome == "unclear"
    assert verdicts(found)["speed"].words.endswith("(3 steps each); --steps 33 would do")
    assert not found.regressed


def test_no_steps_to_time_is_not_enough() -> None:
    found = speed(make(), changed("timing.step_seconds.samples", 0))
    assert (found.outcome, found.words) == (
        "unknown",
        "not enough to say: no timed steps on both sides",
    )


def test_one_run_a_side_does_not_show_how_runs_vary() -> None:
    words = speed(make(0), make(1, scale=1.2)).words
    assert words.startswith("B is slower than A: step time +2")
    assert "does not show how runs vary: --repeats 5 does" in words


def test_several_runs_are_the_samples_themselves() -> None:
    """Steps within each run tell the sides apart, the runs do not: their speeds overlap."""
    a = [make(n, scale=scale) for n, scale in enumerate([1.0, 1.1, 1.2, 1.05, 1.15])]
    b = [make(n, scale=scale) for n, scale in enumerate([1.11, 1.06, 1.16, 1.01, 1.21], 5)]
    assert speed(a[0], b[0]).outcome == "worse"
    found = comparison.compare(a, b)
    assert found.speed.by_runs
    assert verdicts(found)["speed"].outcome == "unclear"
    assert "5 runs each" in verdicts(found)["speed"].words
    slower = comparison.compare(a, [make(n, scale=1.3 + n / 100) for n in range(5)])
    assert verdicts(slower)["speed"].regression
    assert "how runs vary" not in verdicts(slower)["speed"].words


def test_too_few_runs_say_how_many_would_do() -> None:
    found = comparison.compare([make(0), make(1)], [make(2, scale=2), make(3, scale=2)])
    assert verdicts(found)["speed"].words.endswith("(2 runs each); --repeats 5 would do")


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
