"""Speed: what is proved of the programs first, then turns, then repeats, and never one run."""

import copy

import pytest
from compared_records import Record, in_turns, make, noise, other

from harness.comparing import comparison
from harness.comparing.model import USUAL, Comparison, Limits, Verdict
from harness.records import figures


def verdict(found: Comparison, area: str = "speed") -> Verdict:
    (one,) = (one for one in found.verdicts if one.area == area)
    return one


def speed(a: Record, b: Record, limits: Limits = USUAL) -> Verdict:
    return verdict(comparison.compare([a], [b], limits=limits))


# One program


@pytest.mark.parametrize("area", ["speed", "host dispatch"])
def test_one_program_is_the_same_whatever_was_measured(area: str) -> None:
    slow = make(1, impl="nnx", scale=2.2)
    slow["timing"]["host_dispatch_seconds"] = 0.0005
    found = verdict(comparison.compare([make()], [slow]), area)
    assert (found.outcome, found.regression) == ("same", False)
    assert found.words.startswith("the same: one program; one run a side says little: ")
    assert "2.2" in found.words or "2.5" in found.words


@pytest.mark.parametrize(
    "key",
    ["nnx_state", "environment.jax", "environment.git_commit", "config.checkpoint.async", "sha"],
)
def test_one_program_called_otherwise_is_not_proved_the_same(key: str) -> None:
    b = make(1, impl="nnx")
    if key == "sha":
        b["program"]["optimized_sha256"] = None
    elif key == "nnx_state":
        b["nnx_state"] = "jit"
    elif key == "config.checkpoint.async":
        b["case"]["config"]["checkpoint.async"] = False
    else:
        b["environment"][key.partition(".")[2]] = "1"
    assert speed(make(), b).outcome == "unclear"


def test_one_program_on_two_hosts_over_more_steps_is_one_program() -> None:
    b = make(1, impl="nnx")
    b["environment"] |= {"hostname": "host-9", "time": "2026-11-04T14:22:33+00:00"}
    b["case"]["config"]["run.steps"] = 66
    assert speed(make(), b).outcome == "same"


# Turns


def test_turns_decide_where_runs_alone_mislead() -> None:
    a, b = in_turns(1.05)
    found = comparison.compare([a], [b])
    assert found.speed.by == "turns"
    assert (verdict(found).outcome, verdict(found).regression) == ("worse", True)
    assert verdict(found).words.startswith("nnx is slower than linen: step time +")
    assert "40 blocks each, in turns" in verdict(found).words
    (row,) = (row for row in found.rows if row.name == "step, in turns")
    assert row.ratio == pytest.approx(1.05, rel=0.01)
    assert (row.low or 2) < 1.05 < (row.high or 0)
    assert verdict(comparison.compare([b], [a])).outcome == "better"


def test_turns_within_the_margin_are_alike_and_others_say_how_many_blocks() -> None:
    assert speed(*in_turns(1.0, percent=0.5)).words.startswith("alike within 1 %: step time ")
    found = speed(*in_turns(1.0, pairs=16, percent=8.0))
    assert found.outcome == "unclear"
    assert found.words.endswith("blocks would do: a longer --turns-seconds")


def test_turns_with_another_run_say_nothing_of_this_one() -> None:
    a, b = in_turns(1.05)
    b["turns"]["partner"] = "someone-else"
    found = comparison.compare([a], [b])
    assert (found.speed.by, verdict(found).outcome) == ("one run", "unclear")
    alone = copy.deepcopy(b)
    del alone["turns"]
    assert comparison.compare([a], [alone]).speed.by == "one run"


def test_turns_of_several_pairs_are_taken_together() -> None:
    pairs = [in_turns(1.05, pairs=10) for _ in range(4)]
    found = comparison.compare([a for a, _ in pairs], [b for _, b in pairs])
    assert found.speed.by == "turns"
    assert "40 blocks each" in verdict(found).words


# Repeats


def test_several_runs_are_the_samples_themselves() -> None:
    a = [make(n, scale=scale) for n, scale in enumerate([1.0, 1.1, 1.2, 1.05, 1.15])]
    b = [other(n, scale=scale) for n, scale in enumerate([1.11, 1.06, 1.16, 1.01, 1.21], 5)]
    found = comparison.compare(a, b)
    assert found.speed.by == "runs"
    assert verdict(found).outcome == "unclear"
    assert "5 runs each" in verdict(found).words
    slower = comparison.compare(a, [other(n, scale=1.3 + n / 100) for n in range(5)])
    assert verdict(slower).regression


def test_of_equal_repeats_few_get_a_verdict_and_of_slower_ones_nearly_all() -> None:
    def runs(first: int, scale: float = 1.0) -> list[Record]:
        factors = scale * noise(first, 6, 1.0)
        made = make if first % 20 == 0 else other
        return [made(first + n, scale=factor) for n, factor in enumerate(factors)]

    outcomes = {
        scale: [
            verdict(comparison.compare(runs(20 * n), runs(20 * n + 10, scale))).outcome
            for n in range(1, 21)
        ]
        for scale in (1.0, 1.1)
    }
    assert sum(one in ("better", "worse") for one in outcomes[1.0]) <= 1
    assert outcomes[1.1].count("worse") >= 19


def test_too_few_runs_say_how_many_would_do() -> None:
    found = comparison.compare([make(0), make(1)], [other(2, scale=2), other(3, scale=2)])
    assert verdict(found).words.endswith("(2 runs each); --repeats 5 would do")


def test_the_limit_is_what_matters() -> None:
    a = [make(n, scale=1 + n / 1000) for n in range(6)]
    b = [other(n, scale=1.03 + n / 1000) for n in range(6)]
    assert verdict(comparison.compare(a, b)).regression
    loose = verdict(comparison.compare(a, b, limits=Limits(slowdown_percent=10)))
    assert (loose.outcome, loose.regression) == ("same", False)
    assert loose.words.startswith("alike within 10 %")
    assert verdict(comparison.compare(b, a)).outcome == "better"


def test_repeats_show_what_calls_cost_but_fail_no_gate() -> None:
    a, b = [make(n) for n in range(5)], [other(n) for n in range(5, 10)]
    for record in b:
        record["timing"]["host_dispatch_seconds"] = 0.0004
    found = verdict(comparison.compare(a, b), "host dispatch")
    assert (found.outcome, found.regression) == ("worse", False)


# One run a side


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.05, 2.2])
def test_one_run_a_side_is_never_better_or_worse(scale: float) -> None:
    for found in (
        speed(make(0), other(1, scale=scale)),
        speed(make(0), other(1, scale=scale, impl="nnx")),
    ):
        assert (found.outcome, found.regression) == ("unclear", False)
        assert found.words.startswith("one run a side does not show it: ")
        assert "--repeats 5" in found.words
    assert "--impl both" in found.words
    dispatch = verdict(comparison.compare([make(0)], [other(1, scale=scale)]), "host dispatch")
    assert dispatch.outcome == "unclear"


def test_no_steps_to_time_is_not_enough() -> None:
    none = other()
    none["timing"]["step_seconds"]["samples"] = 0
    found = speed(make(), none)
    assert (found.outcome, found.words) == (
        "unknown",
        "not enough to say: no step time on both sides",
    )


# Samples


def test_a_slow_first_step_warm_up_and_steps_after_saves_do_not_count() -> None:
    slow = make(1)
    for number in (0, 1, 2):
        slow["steps"][number]["step_seconds"] = 1000.0
    for number in (9, 10, 20):
        slow["steps"].insert(number, slow["steps"][5] | {"step_seconds": 50.0, "after_save": True})
    assert figures.step_samples(slow) == figures.step_samples(make(1))


def test_the_samples_of_a_resumed_run_are_those_of_its_last_start() -> None:
    resumed = make(0)
    resumed["timing"]["step_seconds"]["samples"] = 10  # 20 steps and 3 of warm-up were before
    assert figures.step_samples(resumed) == figures.step_samples(make(0))[-10:]
    resumed["timing"]["step_seconds"]["samples"] = 0
    assert figures.step_samples(resumed) == []


# What is not comparable


def test_what_is_not_comparable_has_no_ratio() -> None:
    b = other(1, scale=2.2) | {"size": "tiny"}
    b["case"]["hash"] = "e" * 64
    found = comparison.compare([make()], [b])
    assert {(row.ratio, row.low, row.high) for row in found.rows} == {(None, None, None)}
    assert (found.speed.ratio, found.dispatch.ratio) == (None, None)
