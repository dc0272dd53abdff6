"""Verdicts on simulated measurements: rarely one on chance, nearly always one on a change."""

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from harness.comparing import statistics

Generator = np.random.Generator
MARGIN = 0.01
TRIALS = 200


def correlated(strength: float) -> Callable[[Generator, int], np.ndarray]:
    """Noise of 10 % in which neighbours are alike."""

    def draw(generator: Generator, count: int) -> np.ndarray:
        noise = generator.normal(0, 1, count + 200)
        for n in range(1, len(noise)):
            noise[n] = strength * noise[n - 1] + (1 - strength**2) ** 0.5 * noise[n]
        return np.exp(0.1 * noise[200:])

    return draw


def spiked(generator: Generator, count: int) -> np.ndarray:
    """2 % of noise, and about one step in ten takes ten times as long."""
    return normal(generator, count) * np.where(generator.random(count) < 0.1, 10, 1)


def normal(generator: Generator, count: int) -> np.ndarray:
    return generator.normal(1, 0.02, count)


NOISES: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "normal": normal,
    "spiked": spiked,
    "wide": lambda g, n: np.abs(g.normal(1, 0.3, n)) + 0.01,
    "skewed": lambda g, n: g.lognormal(0, 1, n),
    "heavy-tailed": lambda g, n: np.exp(0.1 * g.standard_t(2, n)),
    "two speeds": lambda g, n: g.choice([1.0, 1.5], n) * np.exp(g.normal(0, 0.01, n)),
    "rounded": lambda g, n: np.round(g.normal(0.07, 0.004, n), 3),
    "correlated": correlated(0.5),
    "strongly correlated": correlated(0.9),
    "drifting": lambda g, n: np.exp(np.cumsum(g.normal(0, 0.02, n))),
}


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
        ratio = statistics.paired(*in_turns(NOISES[name], generator, rounds, 1.05), MARGIN)
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
        if (ratio := statistics.paired(*in_turns(NOISES[name], generator, 12, 1.0), MARGIN))
    )
    assert found["higher"] + found["lower"] <= TRIALS / 100


def test_in_turns_a_change_shows_on_a_machine_whose_pace_is_not_its_own() -> None:
    """Apart, the same blocks say nothing: the pace varies by more than the change."""
    generator = np.random.default_rng(4)
    seen = seen_apart = 0
    for _ in range(TRIALS):
        a, b = in_turns(NOISES["normal"], generator, 20, 1.05)
        turns, apart = statistics.paired(a, b, MARGIN), statistics.compare(a, b, MARGIN)
        assert turns is not None
        assert apart is not None
        seen += turns.direction == "higher"
        seen_apart += apart.direction == "higher"
    assert seen >= 0.95 * TRIALS
    assert seen_apart <= TRIALS / 10


def test_a_steady_drift_is_no_difference_between_turns() -> None:
    pace = 1.03 ** np.arange(40.0).reshape(-1, 4)
    a, b = pace[:, [0, 3]].ravel().tolist(), pace[:, [1, 2]].ravel().tolist()
    ratio = statistics.paired(a, b, MARGIN)
    assert ratio is not None
    assert ratio.value == pytest.approx(1)
    assert ratio.direction == "alike"


def test_few_turns_say_how_many_would_do() -> None:
    few = statistics.paired([1.0] * 15, [2.0] * 15, MARGIN)
    enough = statistics.paired([1.0] * 16, [2.0] * 16, MARGIN)
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
    assert statistics.paired(bad, [1.0] * 16, MARGIN) is None
    assert statistics.paired([1.0] * 16, bad, MARGIN) is None
