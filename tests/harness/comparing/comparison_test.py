"""What is made of two sets of records that differ in one thing."""

import copy
import math
from typing import Any

import pytest
from compared_records import CONFIG, PROGRAM, Record, imported, make, noise

from harness import hlo
from harness.comparing import comparison, comparison_text, parity
from harness.comparing.model import Comparison, Limits, Row, Verdict
from harness.errors import UserError
from harness.records import figures

STRICT = Limits(slowdown_percent=1, memory_percent=0, loss_difference=0)


def changed(key: str, value: Any, **made: Any) -> Record:
    """A run whose record has another value at a dotted path."""
    record = make(**made)
    where: Any = record
    *parents, last = key.split(".")
    if key.startswith("case.config."):
        parents, last = ["case", "config"], key.removeprefix("case.config.")
    for parent in parents:
        where = where[parent]
    where[last] = value
    return record


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


def test_the_limit_is_what_matters() -> None:
    a, b = make(seconds=noise(0, 300, 1)), make(seconds=noise(1, 300, 1), scale=1.03)
    assert speed(a, b).regression
    loose = speed(a, b, Limits(slowdown_percent=10))
    assert (loose.outcome, loose.regression) == ("same", False)
    assert loose.words.startswith("alike within 10 %")
    assert speed(b, a).outcome == "better"


# Comparable or not


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("case.config.model.embed", 128),
        ("recipe", "fast"),
        ("size", "tiny"),
        ("environment.device_kind", "TPU v5 lite"),
        ("environment.device_count", 8),
        ("status", "failed"),
    ],
)
def test_a_severe_difference_is_named_and_can_be_the_point(key: str, value: Any) -> None:
    other = changed(key, value)
    if key in ("case.config.model.embed", "recipe", "size"):
        other["case"]["hash"] = "e" * 64
    found = comparison.compare([make()], [other])
    assert not found.comparable
    assert not found.verdicts
    (difference,) = found.differences
    assert (difference.key, difference.severity) == (key, "severe")
    assert key in comparison_text.terminal(found)
    meant = comparison.compare([make()], [other], across=[key])
    assert meant.comparable
    assert meant.differences[0].severity == "intended"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment.jax", "0.9.2"),
        ("environment.xla_flags", "--xla_flag"),
        ("environment.git_dirty", True),
        ("environment.git_commit", "2" * 40),
        ("environment.hostname", "host-1"),
        ("environment.libtpu", None),
        ("init", "native"),
        ("model.attention", "xla"),
        ("case.config.checkpoint.async", False),
    ],
)
def test_a_mild_difference_is_listed(key: str, value: Any) -> None:
    found = comparison.compare([make()], [changed(key, value)])
    assert found.comparable
    assert [(one.key, one.severity) for one in found.differences] == [(key, "mild")]
    assert key in comparison_text.terminal(found)
    meant = comparison.compare([make()], [changed(key, value)], across=[key])
    assert meant.differences[0].severity == "intended"


def test_settings_that_differ_are_named_one_by_one() -> None:
    other = changed("case.config.model.embed", 128)
    other["case"]["config"]["model.dropout_rate"] = 0.0
    other["case"]["hash"] = "e" * 64
    key = "case.config.model.embed"
    found = comparison.compare([make()], [other], across=[key])
    assert not found.comparable
    assert {(one.key, one.severity) for one in found.differences} == {
        (key, "intended"),
        ("case.config.model.dropout_rate", "severe"),
    }


def test_other_tokens_under_one_name_are_another_experiment() -> None:
    found = comparison.compare([make()], [changed("case.hash", "e" * 64)])
    assert [one.key for one in found.differences] == ["case.hash"]
    assert not found.comparable


def test_a_hash_that_its_settings_belie_is_told() -> None:
    found = comparison.compare([make()], [changed("case.config.model.embed", 128)])
    assert not found.comparable
    assert "changed by hand" in comparison_text.terminal(found)


def test_a_tpu_by_its_other_name_is_the_same_device() -> None:
    assert comparison.compare([make()], [changed("environment.device_kind", "TPU v6e")]).comparable


def test_a_run_that_failed_says_why() -> None:
    other = changed("status", "failed") | {"error": "step 3: loss is nan"}
    shown = comparison_text.terminal(comparison.compare([make()], [other]))
    assert "status: completed -> failed (B: step 3: loss is nan)" in shown
    assert shown.endswith("if that is the point of the comparison: --across status")


def test_a_run_without_steps_is_not_compared() -> None:
    found = comparison.compare([make()], [make() | {"steps": []}])
    assert not found.comparable
    assert row(found, "final loss").b is None


@pytest.mark.parametrize("key", ["environment.jaks", "case.config.model.embet", "no", "", "case"])
def test_an_unknown_key_is_refused_with_the_nearest(key: str) -> None:
    with pytest.raises(UserError, match=r"^--across '.*': no such key \(nearest: .+\)$") as caught:
        comparison.compare([make()], [make()], across=[key])
    if key.startswith(("env", "case.config")):
        assert key[:-2] in str(caught.value).partition("nearest")[2]


# Numbers


def test_where_and_how_far_losses_part() -> None:
    other = make()
    other["steps"][7]["loss"] += 0.25
    other["steps"][5]["loss"] = math.nextafter(other["steps"][5]["loss"], 0)
    other["steps"][6]["grad_norm"] = 2.0
    other["checkpoint"]["digest"] = "e" * 64
    found = comparison.compare([make()], [other])
    assert (found.parity.loss.first_step, found.parity.loss.largest_step) == (5, 7)
    assert found.parity.loss.largest == pytest.approx(0.25)
    assert verdicts(found)["numbers"].words == (
        "losses part at step 5, by at most 0.25 (step 7);"
        " gradient norms part at step 6, by at most 0.5 (step 6); different final states"
    )
    assert found.regressed
    allowed = comparison.compare([make()], [other], limits=Limits(loss_difference=0.3))
    assert verdicts(allowed)["numbers"].outcome == "different"
    assert not allowed.regressed


def test_equal_losses_that_end_in_another_state_are_told() -> None:
    found = comparison.compare([make()], [changed("checkpoint.digest", "e" * 64)])
    assert found.regressed
    assert "different final states" in verdicts(found)["numbers"].words


def test_steps_that_only_one_run_has_are_told() -> None:
    other = make()
    del other["steps"][30:]
    found = comparison.compare([make()], [other])
    assert found.parity.only_a == (30, 31, 32)
    assert found.parity.same_state is None
    assert verdicts(found)["numbers"].words == (
        "losses and gradient norms bit-equal over 30 steps; only A has steps 30 to 32"
    )


def test_a_loss_that_is_not_finite_parts_from_one_that_is() -> None:
    other = make()
    other["steps"][4]["loss"] = None
    found = comparison.compare([make()], [other], limits=Limits(loss_difference=1))
    assert found.regressed
    assert "one is not finite at 4" in verdicts(found)["numbers"].words
    assert comparison.compare([other], [copy.deepcopy(other)]).parity.loss.equal


def test_other_learning_rates_are_blamed_on_the_steps_that_set_them() -> None:
    other = changed("case.config.run.steps", 66)
    for entry in other["steps"][3:]:
        entry |= {"learning_rate": 2e-5, "loss": 1.0}
    found = comparison.compare([make()], [other])
    assert verdicts(found)["numbers"].outcome == "unclear"
    assert "learning rates already differ at step 3" in verdicts(found)["numbers"].words
    assert not found.regressed


def test_repeats_that_do_not_repeat_are_told() -> None:
    odd = make()
    odd["steps"][3]["loss"] = 1.0
    found = comparison.compare([make()], [make(), odd])
    assert found.regressed
    assert any("B: its own runs differ: losses part at step 3" in one for one in found.warnings)


def test_a_run_against_itself_is_told() -> None:
    run = make(run_id="one")
    assert comparison.compare([run], [run]).warnings == ("both sides hold the run one",)


# Memory, program, checkpoints


def test_every_byte_of_memory_counts_and_the_limit_says_when_it_fails() -> None:
    more = changed("memory.total_bytes", 860_000_001)
    found = comparison.compare([make()], [more], limits=STRICT)
    assert verdicts(found)["memory"].outcome == "worse"
    assert found.regressed
    assert not comparison.compare([make()], [more]).regressed
    less = comparison.compare([more], [make()], limits=STRICT)
    assert (verdicts(less)["memory"].outcome, less.regressed) == ("better", False)
    unknown = changed("memory.total_bytes", None)
    unknown["memory"]["peak_in_use_bytes"] = None
    found = comparison.compare([make()], [unknown])
    assert verdicts(found)["memory"].outcome == "unknown"


HLO = """HloModule m
ENTRY main {{
  x = f32[8] parameter(0)
  ROOT y = f32[8] {}(x, x)
}}
"""


def test_programs_that_differ_are_told_apart_by_what_they_do() -> None:
    other = make()
    other["program"] = PROGRAM | {
        "optimized_sha256": "f" * 64,
        "wire_bytes": 7e9,
        "collectives": {"all-gather": {"count": 18, "bytes": 7e9}},
    }
    found = comparison.compare([make()], [other])
    assert {name: b for name, _, b in found.programs.changes} == {
        "bytes on the wire": 7e9,
        "all-gather count": 18,
        "all-gather bytes": 7e9,
    }
    words = verdicts(found)["program"].words
    assert words.startswith("one lowered text, compiled otherwise: bytes on the wire,")
    assert "program.txt.gz" in words
    programs = hlo.parse(HLO.format("add")), hlo.parse(HLO.format("multiply"))
    found = comparison.compare([make()], [other], programs=programs)
    assert found.programs.operations
    assert any("multiply" in operation for operation in found.programs.operations)
    assert "multiply" in comparison_text.terminal(found)


def test_checkpoints_are_compared_by_what_they_hold() -> None:
    found = comparison.compare([make()], [changed("checkpoint.arrays", 40)])
    assert verdicts(found)["checkpoints"].outcome == "different"
    assert "39 -> 40 arrays" in verdicts(found)["checkpoints"].words
    none = changed("checkpoint.saves", [])
    found = comparison.compare([make()], [none])
    assert row(found, "checkpoint stall").b is None
    assert "1.600 s and unknown in 2 and 0 saves" in verdicts(found)["checkpoints"].words


# Logs of other programs


def test_a_log_is_not_known_to_be_the_same_experiment() -> None:
    found = comparison.compare([make()], [imported()])
    assert not found.comparable
    (severe,) = (one for one in found.differences if one.severity == "severe")
    assert severe.key == "case.hash"
    assert "not known to be the same experiment: B has none" in severe.words


def test_a_log_agrees_as_far_as_its_digits_tell() -> None:
    found = comparison.compare([make()], [imported()], across=["case.hash"])
    assert found.comparable
    assert (
        verdicts(found)["numbers"].words == "losses equal to the three digits known over 33 steps"
    )
    other = imported()
    other["steps"][4]["loss"] += 0.001
    found = comparison.compare([imported()], [other], across=["case.hash"])
    assert "by at most 0.001 (step 4) (three digits are known)" in verdicts(found)["numbers"].words


def test_a_figure_that_is_printed_more_exactly_is_held_against_the_other_s_digits() -> None:
    """Three digits beside six: half a thousandth is no difference, a whole one is."""
    exact = imported()
    exact["source"] = {"rounding": {"loss": 5e-7, "grad_norm": 5e-7}}
    exact["steps"][4]["loss"] += 0.0004
    assert parity.compare(exact, imported()).loss.equal
    exact["steps"][4]["loss"] += 0.0004
    assert parity.compare(exact, imported()).loss.first_step == 4
    assert parity.compare(exact, imported()).digits == 3


def test_the_steps_of_a_log_are_timed_but_for_three() -> None:
    samples = figures.step_samples(imported())
    assert samples == [round(seconds, 3) for seconds in figures.step_samples(make())]
    assert row(comparison.compare([imported()], [imported()]), "step").a == pytest.approx(0.07)


def test_what_is_unknown_is_never_zero() -> None:
    shown = comparison_text.terminal(comparison.compare([imported()], [imported()]))
    assert " 0 " not in shown
    assert CONFIG.keys().isdisjoint(shown.split())
