"""Whether two sets of measurements differ, by how much, and how surely; deterministic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Direction = Literal["higher", "lower", "alike", "unclear"]

LEVEL = 0.01  # of both tests: rarer than this is no chance
_RESAMPLES = 2000
_SEED = 20_260
_EXACT_UP_TO = 12  # values a side; beyond, the normal approximation is as good
_AT_A_TIME = 2**18  # numbers of the bootstrap at once: as many as caches hold
_STRONGEST_CORRELATION = 0.98
_USUAL_STEPS = 30  # fewer do not tell how alike neighbours are
_SMALLEST_DISTANCE = 1e-4  # of ratios that are to be told apart
_LARGEST_LOGARITHM = 300.0  # of ratios, so that products of two stay finite
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """How many times as large B is as A, and what can be said of it.

    low, high: its interval at 1 - LEVEL; p: of the test beside it, for both directions; None with
    fewer values than could say anything. needed: about how many values a side would settle it, None
    when settled.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    samples_a: int
    samples_b: int
    direction: Direction
    needed: int | None


def compare(
    a: Sequence[float], b: Sequence[float], margin: float, independent: bool = False
) -> Ratio | None:
    """Returns how `b` stands to `a`: higher or lower only when it is so beyond doubt.

    That is, when the interval of the ratio of medians lies wholly beyond 1 + margin or below
    1 / (1 + margin), and the rank test says the same. Alike: the interval lies between the two.
    `independent` says that the values have no order in time, such as those of repeated runs; else
    neighbours are taken to be as alike as they are found to be. None when a side is empty or holds
    a value that is not positive.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for side in (first, second):
        if not side.size or not np.all(np.isfinite(side)) or side.min() <= 0:
            return None
    shift = math.log(np.median(second)) - math.log(np.median(first))
    smaller, least = min(first.size, second.size), min_samples()
    usual = least if independent else _USUAL_STEPS
    if smaller < least:
        return Ratio(
            bounded_exp(shift), None, None, None, first.size, second.size, "unclear", usual
        )
    correlation = 0.0 if independent else _correlation(first, second)
    low, high = _interval(first, second, correlation)
    p = _rank_test(first, second, correlation)
    direction, needed = judged(shift, low, high, p, margin, smaller, usual)
    exact = bounded_exp(shift), bounded_exp(low), bounded_exp(high)
    return Ratio(*exact, p, first.size, second.size, direction, needed)


def judged(
    shift: float, low: float, high: float, p: float, margin: float, count: int, usual: int
) -> tuple[Direction, int | None]:
    """What interval, in logarithms, and test say, and about how many values would settle it.

    count: of the values that they rest on; usual: how many such measurements usually have.
    """
    edge = math.log1p(margin)
    if p <= LEVEL and (low > edge or high < -edge):
        return "higher" if low > edge else "lower", None
    if -edge <= low and high <= edge:
        return "alike", None
    # The interval must come to lie on one side of the margin, and narrows with the root of
    # the count; twice that, as the ratio will not come out the same again. One close to the
    # margin is never told from it: a quarter of the margin must do.
    distance = max(abs(abs(shift) - edge), edge / 4, _SMALLEST_DISTANCE)
    wanted = 2 * count * ((high - low) / 2 / distance) ** 2
    return "unclear", _rounded(max(wanted, 1.25 * count, usual))


def bounded_exp(logarithm: float) -> float:
    """Its exponential, kept within what a product of two can hold."""
    return math.exp(max(-_LARGEST_LOGARITHM, min(logarithm, _LARGEST_LOGARITHM)))


def min_samples() -> int:
    """How many values a side the rank test needs to say anything at LEVEL."""
    count = 1
    while 2 / math.comb(2 * count, count) > LEVEL:
        count += 1
    return count


def _interval(a: _Array, b: _Array, correlation: float) -> tuple[float, float]:
    """The interval of the ratio of medians, in logarithms, from resampled blocks of neighbours."""
    generator = np.random.default_rng(_SEED)
    medians = [np.log(_resampled_medians(side, correlation, generator)) for side in (a, b)]
    low, high = np.quantile(medians[1] - medians[0], [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _resampled_medians(
    values: _Array, correlation: float, generator: np.random.Generator
) -> _Array:
    size = values.size
    block = _block_length(size, correlation)
    blocks = math.ceil(size / block)
    # The end is followed by the beginning: every value is in as many blocks.
    starting_at = sliding_window_view(np.concatenate([values, values[: block - 1]]), block)
    middle = [(size - 1) // 2, size // 2]
    medians = []
    rows = max(1, _AT_A_TIME // size)
    for start in range(0, _RESAMPLES, rows):
        count = min(rows, _RESAMPLES - start)
        chosen = starting_at[generator.integers(0, size, (count, blocks))]
        resampled = chosen.reshape(count, -1)[:, :size]
        medians.append(np.partition(resampled, middle, axis=1)[:, middle].mean(axis=1))
    return np.concatenate(medians)


def _block_length(size: int, correlation: float) -> int:
    """The length that serves a series with this correlation of neighbours best (Carlstein 1986)."""
    best = (math.sqrt(6) * correlation / (1 - correlation**2)) ** (2 / 3) * size ** (1 / 3)
    return max(1, min(math.ceil(best), size // 3))


def _correlation(*sides: _Array) -> float:
    """How alike neighbours are in rank, over all sides: as much as the values leave possible."""
    products = squares = 0.0
    for side in sides:
        ranks, _ = _ranks(side)
        ranks -= ranks.mean()
        products += float(ranks[1:] @ ranks[:-1])
        squares += float(ranks @ ranks)
    if squares == 0:
        return 0.0
    count = sum(side.size for side in sides)
    found = products / squares
    found += (1 + 3 * max(found, 0.0)) / (count / len(sides))  # its bias, to first order
    found += 1 / math.sqrt(count)  # and its standard error
    return min(max(found, 0.0), _STRONGEST_CORRELATION)


def _rank_test(a: _Array, b: _Array, correlation: float) -> float:
    """Mann and Whitney's test that neither side tends to be higher: p of both directions.

    Neighbours alike are fewer than they seem: the deviation grows with their correlation.
    """
    ranks, ties = _ranks(np.concatenate([a, b]))
    n, m = a.size, b.size
    wins = float(ranks[n:].sum()) - m * (m + 1) / 2
    mean = n * m / 2
    if ties == 0 and max(n, m) <= _EXACT_UP_TO:
        p = _exact(n, m, round(min(wins, n * m - wins)))
        z = NormalDist().inv_cdf(1 - p / 2)
    else:
        total = n + m
        variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
        z = max(abs(wins - mean) - 0.5, 0.0) / math.sqrt(variance) if variance > 0 else 0.0
    z *= math.sqrt((1 - correlation) / (1 + correlation))
    return math.erfc(z / math.sqrt(2))


def _exact(n: int, m: int, wins: int) -> float:
    """The share of all orders of n and m values with as few wins, both directions."""
    # counts[i][w]: orders of i values of A among those of B so far in which B wins w times
    counts = [[1] + [0] * (n * m) for _ in range(n + 1)]
    for _ in range(m):
        for i in range(1, n + 1):
            below = counts[i - 1]
            own = counts[i]
            counts[i] = [(own[w - i] if w >= i else 0) + below[w] for w in range(n * m + 1)]
    as_few = sum(counts[n][: wins + 1])
    return min(1.0, 2 * as_few / math.comb(n + m, n))


def _ranks(values: _Array) -> tuple[_Array, float]:
    """Ranks from 1, equal values sharing their mean, and the sum of t^3 - t over ties of t."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means = ends - (counts - 1) / 2
    return means[which.reshape(-1)], float((counts.astype(np.float64) ** 3 - counts).sum())


def _rounded(count: float) -> int:
    """A count rounded up to two digits."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit
