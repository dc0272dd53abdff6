"""What measurements in turns say: each value beside the one measured next to it."""

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.comparing.statistics import LEVEL, Ratio, bounded_exp, judged

_EXACT_UP_TO = 25  # rounds; beyond, the normal approximation is nearly as good
_Array = NDArray[np.float64]


def compare(a: Sequence[float], b: Sequence[float], margin: float) -> Ratio | None:
    """Returns how `b` stands to `a`, blocks of steps that were run in the order A B B A ...

    The k-th blocks of both ran one right after the other, so that what slows the machine for longer
    than a block is no difference between them; four blocks A B B A are one value, in which a steady
    drift cancels. Such values lie as often above the true ratio as below it and as far, which is
    all that Wilcoxon's signed-rank test asks: p is its p, the interval is what it does not rule
    out, the ratio what it rules out last (Hodges and Lehmann 1963). It is exact for few values
    too, where a bootstrap's interval is too narrow. The verdict is as in `statistics.compare`.
    None without a whole A B B A, or with a block that is not positive.
    """
    pairs = min(len(a), len(b)) // 2 * 2
    first, second = np.asarray(a[:pairs], np.float64), np.asarray(b[:pairs], np.float64)
    both = np.stack([first, second])
    if not pairs or not np.all(np.isfinite(both)) or both.min() <= 0:
        return None
    logarithms = (np.log(second) - np.log(first)).reshape(-1, 2).mean(axis=1)
    means = _means_of_two(logarithms)
    shift, size, least = float(np.median(means)), logarithms.size, min_rounds()
    if size < least:
        return Ratio(bounded_exp(shift), None, None, None, pairs, pairs, "unclear", 2 * least)
    left_out = _left_out(size)
    low, high = float(means[left_out - 1]), float(means[-left_out])
    above, below = int((means > 0).sum()), int((means < 0).sum())
    p = _signed_rank_test(size, min(above, below) + (means.size - above - below) // 2)
    direction, needed = judged(shift, low, high, p, margin, size, least)
    exact = bounded_exp(shift), bounded_exp(low), bounded_exp(high)
    return Ratio(*exact, p, pairs, pairs, direction, None if needed is None else 2 * needed)


def min_rounds() -> int:
    """How many rounds A B B A the test needs to say anything at LEVEL."""
    return math.ceil(math.log2(2 / LEVEL))


def _means_of_two(values: _Array) -> _Array:
    """The means of all pairs of values, each with itself too, in order (Walsh 1949).

    As many of them lie above 0 as the ranks of the values above 0 sum to.
    """
    rows, columns = np.triu_indices(values.size)
    return np.sort((values[rows] + values[columns]) / 2)


def _left_out(size: int) -> int:
    """How many means of two the test, at LEVEL, rules out at either end, and one."""
    left_out = 0
    while _signed_rank_test(size, left_out) <= LEVEL:
        left_out += 1
    return left_out


def _signed_rank_test(size: int, rarer: int) -> float:
    """The test that a rank sum as small as this is chance, of `size` values: p, both directions."""
    if size <= _EXACT_UP_TO:
        return min(1.0, 2 * sum(_orders(size)[: rarer + 1]) / 2**size)
    mean = size * (size + 1) / 4
    deviation = math.sqrt(mean * (2 * size + 1) / 6)
    return min(1.0, 2 * NormalDist().cdf((rarer + 0.5 - mean) / deviation))


@functools.cache
def _orders(size: int) -> list[int]:
    """In how many ways signs can be given to the ranks 1 to `size` for each sum of those above."""
    ways = [1]
    for rank in range(1, size + 1):
        without, with_rank = ways + [0] * rank, [0] * rank + ways
        ways = [one + other for one, other in zip(without, with_rank, strict=True)]
    return ways
