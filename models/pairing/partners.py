"""Whose array is whose, by what one step does to it and, where that does not tell, by its place."""

import difflib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.pairing.layouts import Layout, Shape
from models.pairing.links import Link, paths

ALIKE = 0.02  # relative distance of what is one and the same, computed in two ways
_APART = 10  # how many times farther everything else must be
_KINDS = {"weight": "kernel", "w": "kernel", "gamma": "scale", "beta": "bias", "b": "bias",
          "running_mean": "mean", "running_var": "var", "table": "embedding"}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What is seen of an array: its gradient, or its value after a step; its place in first use."""

    evidence: np.ndarray
    place: float


Sight = Mapping[str, Seen]


def match(a: Sight, b: Sight) -> list[Link]:
    """Partners among arrays of as many numbers; what has none is left out."""
    sizes = {one.evidence.size for one in (*a.values(), *b.values())}
    found = []
    for size in sizes:
        ours, theirs = (
            {path: one for path, one in side.items() if one.evidence.size == size}
            for side in (a, b)
        )
        sure = _by_value(ours, theirs)
        found += sure
        found += _by_order(without(ours, paths(sure, 0)), without(theirs, paths(sure, 1)))
    return found


def without(seen: Sight, taken: Collection[str]) -> Sight:
    """The arrays that are not taken yet."""
    return {path: one for path, one in seen.items() if path not in taken}


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """How far two arrays of one size are apart, of the larger's own size; inf where both are 0."""
    norm = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    if not np.isfinite(norm) or norm == 0:
        return float("inf")
    return float(np.linalg.norm(one.ravel() - other.ravel())) / norm


def _by_value(a: Sight, b: Sight) -> list[Link]:
    if not a or not b:
        return []
    names, others = list(a), list(b)
    far = np.array([[_turned(a[one], b[other])[0] for other in others] for one in names])
    found = []
    for row, one in enumerate(names):
        column = int(far[row].argmin())
        nearest = far[row, column]
        rest = np.concatenate([np.delete(far[row], column), np.delete(far[:, column], row)])
        if nearest < ALIKE and (rest > _APART * max(nearest, 1e-6)).all():
            layout = _turned(a[one], b[others[column]])[1]
            found.append(Link(((one,),), ((others[column],),), "value", layout))
    return found


def _turned(a: Seen, b: Seen) -> tuple[float, Layout]:
    """The distance, and whether a is taken transposed: where that makes it nearer."""
    one, other = a.evidence, b.evidence
    layouts = [Layout(), *(Layout(turned=order) for order in _orders(one.shape, other.shape))]
    return min(
        ((distance(layout.join([one], other.shape), other), layout) for layout in layouts),
        key=lambda found: found[0],
    )


def _orders(a: Shape, b: Shape) -> Iterator[tuple[int, ...]]:
    """How a is transposed, as the matrix that it folds to, into what folds to b; if it can be."""
    for cut in range(1, len(a)):
        if any(math.prod(a[cut:]) == math.prod(b[:place]) for place in range(1, len(b))):
            yield (*range(cut, len(a)), *range(cut))


def _by_order(a: Sight, b: Sight) -> list[Link]:
    if not a or not b:
        return []
    from scipy.optimize import linear_sum_assignment

    ranks = [_ranks(side) for side in (a, b)]
    names, others = list(a), list(b)
    cost = np.array(
        [
            [
                _cost(one, other, abs(ranks[0][one] - ranks[1][other]), a, b)
                for other in others
            ]
            for one in names
        ]
    )  # fmt: skip
    rows, columns = linear_sum_assignment(cost)
    return [
        Link(((names[row],),), ((others[column],),), "order")
        for row, column in zip(rows, columns, strict=True)
    ]


def _cost(one: str, other: str, apart: float, a: Sight, b: Sight) -> float:
    """How unlikely two arrays are partners, where their values do not tell."""
    kinds = kind(one) != kind(other)
    shapes = a[one].evidence.shape != b[other].evidence.shape
    words = 1 - difflib.SequenceMatcher(None, _words(one), _words(other)).ratio()
    return 10 * kinds + 5 * shapes + 2 * apart + words


def _ranks(side: Sight) -> dict[str, float]:
    """Places from 0 to 1."""
    ordered = sorted(side, key=lambda path: (side[path].place, path))
    return {path: n / max(1, len(ordered) - 1) for n, path in enumerate(ordered)}


def kind(path: str) -> str:
    """What kind of array a path names: its last word, under its usual name."""
    last = path.rpartition("/")[2]
    return _KINDS.get(last, last)


def _words(path: str) -> Sequence[str]:
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower())
