"""Verdicts on simulated turns, and the test that they rest on."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from noises import NOISES, Generator

from harness.comparing import paired, statistics

MARGIN = 0.01
TRIALS = 200


def in_turns(
    noise: Callable[[Generator, int], np.ndarray], generator: Generator, rounds: int, factor: float
) -> tuple[list[float], list[float]]:
    """Blocks of A and of B in the order A B B A, on a machine whose pace drifts and jumps."""
    count = 4 * rounds
    pace = np.exp(np.cumsum(generator.normal(0, 0.02, count)) + 0.01 * np.arange(count))
    pace *= np.repeat(generator.choice([1.0, 2.0], rounds), 4)
    blocks = (pace * noise(generator, count)).reshape(-1, 4)
    return blocks[:, [0, 3]].ravel().tolist(), (factor * blocks[:, [1, 2]]).ravel().tolist()


@pytest.mark.parametrize("rounds", [8, 40])
@pytest.mark.parametrize("name", ["normal", "spiked", "wide", "heavy-tailed", "correlated"])
def test_in_turns_the_true_ratio_lies_in_the_interval(name: str, rounds: int) -> None:
    generator = np.random.default_rng(2)
    inside, wrong, trials = 0, 0, TRIALS // 2
    for _ in range(trials):
        ratio = paired.compare(*in_turns(NOISES[name], generator, rounds, 1.05), MARGIN)
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        inside += ratio.low <= 1.05 <= ratio.high
        wrong += ratio.direction in ("lower", "alike")
    assert inside >= 0.95 * trials
    assert wrong <= trials / 100


@pytest.mark.parametrize("name", ["normal", "spiked", "wide", "heavy-tailed", "correlated"])
def test_equal_blocks_in_turns_get_no_verdict(name: str) -> None:
    generator = np.random.default_rng(3)
    found = Counter(
        ratio.direction
        for _ in range(TRIALS)
        if (ratio := paired.compare(*in_turns(NOISES[name], generator, 12, 1.0), MARGIN))
    )
    assert found["higher"] + found["lower"] <= TRIALS / 100


def test_in_turns_a_change_shows_on_a_machine_whose_pace_is_not_its_own() -> None:
    """Apart, the same blocks say nothing: the pace varies by more than the change."""
    generator = np.random.default_rng(4)
    seen = seen_apart = 0
    for _ in range(TRIALS):
        a, b = in_turns(NOISES["normal"], generator, 20, 1.05)
        turns, apart = paired.compare(a, b, MARGIN), statistics.compare(a, b, MARGIN)
        assert turns is not None
        assert apart is not None
        seen += turns.direction == "higher"
        seen_apart += apart.direction == "higher"
    assert seen >= 0.95 * TRIALS
    assert seen_apart <= TRIALS / 10


def test_a_steady_drift_is_no_difference_between_turns() -> None:
    pace = 1.03 ** np.arange(40.0).reshape(-1, 4)
    a, b = pace[:, [0, 3]].ravel().tolist(), pace[:, [1, 2]].ravel().tolist()
    ratio = paired.compare(a, b, MARGIN)
    assert ratio is not None
    assert ratio.value == pytest.approx(1)
    assert ratio.direction == "alike"


def test_few_turns_say_how_many_would_do() -> None:
    few = paired.compare([1.0] * 15, [2.0] * 15, MARGIN)
    enough = paired.compare([1.0] * 16, [2.0] * 16, MARGIN)
    assert few is not None
    assert enough is not None
    assert (few.direction, few.low, few.p, few.samples_a, few.needed) == (
        "unclear",
        None,
        None,
        14,
        16,
    )
    assert (enough.direction, enough.low, enough.high) == ("higher", 2.0, 2.0)
    assert enough.p == pytest.approx(2 / 2**8)


@pytest.mark.parametrize("bad", [[], [1.0], [0.0] * 16, [float("nan")] * 16])
def test_what_are_no_blocks_get_no_answer(bad: list[float]) -> None:
    assert paired.compare(bad, [1.0] * 16, MARGIN) is None
    assert paired.compare([1.0] * 16, bad, MARGIN) is None


@pytest.mark.parametrize("values", [[0.1, 0.2, -0.3, 0.4, 0.5], [1.0, 2, 3, 4, -5, -6, 7, 8]])
def test_the_signed_rank_test_counts_all_signs(values: list[float]) -> None:
    """Against the definition: of all ways to give signs, those with so small a sum of ranks."""
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    found = min(sum(ranks[np.array(values) > 0]), sum(ranks[np.array(values) < 0]))
    ways = itertools.product([0, 1], repeat=len(values))
    as_small = sum(np.dot(signs, ranks) <= found for signs in ways)
    expected = min(1.0, 2 * as_small / 2 ** len(values))
    assert paired._signed_rank_test(len(values), int(found)) == pytest.approx(expected)
    means = paired._means_of_two(np.array(values))
    assert min((means > 0).sum(), (means < 0).sum()) == found


def test_of_many_the_normal_approximation_is_a_little_more_careful() -> None:
    exact = 2 * sum(paired._orders(26)[:76]) / 2**26
    assert 0.005 < exact < 0.02
    assert exact <= paired._signed_rank_test(26, 75) < 1.2 * exact


def test_the_interval_is_what_the_test_does_not_rule_out() -> None:
    generator = np.random.default_rng(5)
    a = np.repeat(1.0, 40)
    b = np.exp(np.repeat(generator.normal(0.02, 0.01, 20), 2))
    ratio = paired.compare(a.tolist(), b.tolist(), MARGIN)
    assert ratio is not None
    assert ratio.low is not None
    for inside, factor in ((False, 0.9999), (True, 1.0001)):
        moved = paired.compare((a * ratio.low * factor).tolist(), b.tolist(), MARGIN)
        assert moved is not None
        assert moved.p is not None
        assert (moved.p > statistics.LEVEL) == inside
