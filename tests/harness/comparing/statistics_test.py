"""Verdicts on simulated measurements: rarely one on chance, nearly always one on a change."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from noises import NOISES, Generator, normal

from harness.comparing import statistics

MARGIN = 0.01
TRIALS = 200


def directions(
    noise: Callable[[Generator, int], np.ndarray],
    count: int,
    factor: float = 1.0,
    seed: int = 1,
    independent: bool = False,
    trials: int = TRIALS,
) -> Counter[str]:
    """How often each is said of as many pairs, the second slowed by `factor`."""
    generator = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for _ in range(trials):
        a, b = noise(generator, count), factor * noise(generator, count)
        ratio = statistics.compare(a.tolist(), b.tolist(), MARGIN, independent)
        assert ratio is not None
        found[ratio.direction] += 1
    return found


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("count", [7, 30])
def test_at_most_one_in_twenty_equal_pairs_gets_a_verdict(name: str, count: int) -> None:
    found = directions(NOISES[name], count)
    assert found["higher"] + found["lower"] <= TRIALS / 20


def test_equal_repeats_get_no_verdict() -> None:
    found = directions(NOISES["wide"], 5, independent=True)
    assert found["higher"] + found["lower"] <= TRIALS / 20


@pytest.mark.parametrize(("factor", "direction"), [(1.05, "higher"), (1 / 1.05, "lower")])
@pytest.mark.parametrize("name", ["normal", "spiked"])
def test_a_change_of_five_percent_is_seen_through_two_percent_of_noise(
    name: str, factor: float, direction: str
) -> None:
    assert directions(NOISES[name], 30, factor)[direction] >= 0.95 * TRIALS


def test_five_repeats_show_a_change() -> None:
    found = directions(lambda g, n: g.normal(1, 0.01, n), 5, 1.1, independent=True)
    assert found["higher"] >= 0.95 * TRIALS


def test_a_difference_too_small_to_matter_is_alike() -> None:
    found = directions(normal, 400, 1.002, trials=40)
    assert found["alike"] >= 36
    assert found["higher"] == found["lower"] == 0


def test_a_ratio_is_what_the_medians_say_and_lies_in_its_interval() -> None:
    generator = np.random.default_rng(0)
    a, b = normal(generator, 31), 1.2 * normal(generator, 31)
    ratio = statistics.compare(a.tolist(), b.tolist(), MARGIN)
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.value == pytest.approx(np.median(b) / np.median(a))
    assert 1.1 < ratio.low < ratio.value < ratio.high < 1.3
    assert (ratio.samples_a, ratio.samples_b, ratio.needed) == (31, 31, None)


def test_the_ratio_is_that_of_the_medians_also_of_few_values() -> None:
    ratio = statistics.compare([1.0, 3.0], [1.0, 1.0], MARGIN, independent=True)
    assert ratio is not None
    assert ratio.value == pytest.approx(0.5)


def test_the_same_measurements_always_get_the_same_answer() -> None:
    a, b = np.random.default_rng(0).normal(1, 0.1, (2, 40))
    assert statistics.compare(a.tolist(), b.tolist(), MARGIN) == statistics.compare(
        list(a), list(b), MARGIN
    )


def test_equal_measurements_are_alike() -> None:
    ratio = statistics.compare([0.07] * 30, [0.07] * 30, MARGIN)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high, ratio.p) == (1.0, 1.0, 1.0, 1.0)
    assert ratio.direction == "alike"


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [-1.0], [float("nan")], [float("inf")]])
def test_what_is_no_measurement_gets_no_answer(bad: list[float]) -> None:
    assert statistics.compare(bad, [1.0] * 9, MARGIN) is None
    assert statistics.compare([1.0] * 9, bad, MARGIN) is None


def test_extreme_measurements_break_nothing() -> None:
    ratio = statistics.compare([5e-324] * 30, [1e99] * 30, MARGIN)
    assert ratio is not None
    assert ratio.direction == "higher"
    assert np.isfinite(ratio.value / (ratio.low or 0))


def test_few_values_say_how_many_would_do() -> None:
    runs = statistics.compare([1.0, 1.0], [2.0, 2.0], MARGIN, independent=True)
    steps = statistics.compare([1.0, 1.0], [2.0, 2.0], MARGIN)
    assert runs is not None
    assert steps is not None
    assert (runs.direction, runs.low, runs.p) == ("unclear", None, None)
    assert runs.needed == statistics.min_samples() == 5
    assert steps.needed == 30


def test_as_many_as_are_asked_for_do_settle_it() -> None:
    generator = np.random.default_rng(3)

    def compared(count: int) -> statistics.Ratio | None:
        a, b = generator.normal(1, 0.05, count), 1.04 * generator.normal(1, 0.05, count)
        return statistics.compare(a.tolist(), b.tolist(), MARGIN)

    asked = [compared(20) for _ in range(30)]
    needed = [ratio.needed for ratio in asked if ratio is not None and ratio.needed]
    settled = [compared(count) for count in needed[:15]]
    assert len(settled) == 15
    assert sum(ratio is not None and ratio.direction == "higher" for ratio in settled) > 10


@pytest.mark.parametrize(("n", "m"), [(3, 4), (5, 5), (2, 7)])
def test_the_rank_test_counts_all_orders(n: int, m: int) -> None:
    """Against the definition: of all ways to deal the ranks, those at least as one-sided."""
    values = np.arange(1.0, n + m + 1)
    deals = [list(deal) for deal in itertools.combinations(range(n + m), m)]

    def wins(deal: list[int]) -> int:
        others = [i for i in range(n + m) if i not in deal]
        return sum(i > j for i in deal for j in others)

    for deal in deals[:: max(1, len(deals) // 20)]:
        others = [i for i in range(n + m) if i not in deal]
        found = statistics._rank_test(values[others], values[deal], 0.0)
        few = min(wins(deal), n * m - wins(deal))
        as_few = sum(wins(other) <= few for other in deals)
        assert found == pytest.approx(min(1.0, 2 * as_few / len(deals)))


def test_the_rank_test_shares_the_ranks_of_equal_values() -> None:
    """Against scipy.stats.mannwhitneyu(b, a, method="asymptotic")."""
    a, b = np.array([1.0, 2, 2, 3, 3, 3, 4]), np.array([2.0, 3, 4, 4, 5, 5, 6])
    assert statistics._rank_test(a, b, 0.0) == pytest.approx(0.04305, abs=1e-5)
    assert statistics._rank_test(a, a, 0.0) == 1.0
    assert statistics._rank_test(a, b, 0.5) > 0.2
