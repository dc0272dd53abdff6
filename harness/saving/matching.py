"""Which arrays of two checkpoints are the same ones: by name, or by shape and value."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.saving import files
from harness.saving.files import StoredStep

_SAMPLED = 4096  # elements that stand for an array's values, evenly spaced
_NEAR = 0.1  # of the values' own size: a rounding or some steps of training, no other array


@dataclass(frozen=True)
class Pair:
    """One array's names in two checkpoints, and how many others have the very same bits."""

    one: str
    other: str
    alike: int = 0


@dataclass
class Matching:
    """The pairs found, and the names for which there is no partner."""

    pairs: list[Pair] = field(default_factory=list)
    only_one: list[str] = field(default_factory=list)
    only_other: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Print:
    """What is kept of an array that was read: enough to tell it from others."""

    form: str
    shape: tuple[int, ...]
    sha256: str
    sample: np.ndarray


def by_name(one: Iterable[str], other: Iterable[str]) -> Matching:
    """Pairs equal names."""
    ours, theirs = set(one), set(other)
    pairs = [Pair(name, name) for name in sorted(ours & theirs)]
    return Matching(pairs, sorted(ours - theirs), sorted(theirs - ours))


def by_value(one: StoredStep, other: StoredStep) -> Matching:
    """Pairs arrays of equal bits, of equal name and shape, of near values and shape, in this order.

    Among arrays of equal bits equal names come first, then the order of the names decides. What
    then has no partner but of its own name gets that, whatever its shape.
    """
    ours, theirs = _prints(one), _prints(other)
    pairs = [*_of_equal_bits(ours, theirs)]
    for found in (_of_equal_names_and_shapes, _of_near_values, _of_equal_names):
        for pair in pairs:
            ours.pop(pair.one, None)
            theirs.pop(pair.other, None)
        pairs += found(ours, theirs)
    taken_ours, taken_theirs = {pair.one for pair in pairs}, {pair.other for pair in pairs}
    return Matching(
        sorted(pairs, key=lambda pair: pair.one),
        sorted(set(ours) - taken_ours),
        sorted(set(theirs) - taken_theirs),
    )


def _prints(step: StoredStep) -> dict[str, _Print]:
    """Reads a checkpoint, one array at a time."""
    found = {}
    for name, form in files.described(step).items():
        array = np.ascontiguousarray(files.read_arrays(step, {name: form})[name])
        flat = array.reshape(-1)
        places = np.linspace(0, max(0, flat.size - 1), min(flat.size, _SAMPLED)).astype(np.int64)
        found[name] = _Print(
            form=str(array.dtype),
            shape=tuple(form.shape),
            sha256=hashlib.sha256(flat.view(np.uint8).data).hexdigest(),
            sample=wide(flat[places]),
        )
    return found


def wide(array: np.ndarray) -> np.ndarray:
    """The same numbers in a type in which differences can be taken."""
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def _of_equal_bits(ours: dict[str, _Print], theirs: dict[str, _Print]) -> Iterable[Pair]:
    groups: dict[Any, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, prints in enumerate((ours, theirs)):
        for name, kept in sorted(prints.items()):
            groups[kept.form, kept.shape, kept.sha256][side].append(name)
    for names, partners in groups.values():
        alike = min(len(names), len(partners)) - 1
        same = [name for name in names if name in partners]
        yield from (Pair(name, name, alike) for name in same)
        rest, others = ([name for name in side if name not in same] for side in (names, partners))
        for name, partner in zip(rest, others, strict=False):  # those left over have no partner
            yield Pair(name, partner, alike)


def _of_equal_names_and_shapes(ours: dict[str, _Print], theirs: dict[str, _Print]) -> list[Pair]:
    pairs = _of_equal_names(ours, theirs)
    return [pair for pair in pairs if ours[pair.one].shape == theirs[pair.other].shape]


def _of_equal_names(ours: dict[str, _Print], theirs: dict[str, _Print]) -> list[Pair]:
    return by_name(ours, theirs).pairs


def _of_near_values(ours: dict[str, _Print], theirs: dict[str, _Print]) -> list[Pair]:
    """The nearest first, none of them twice."""
    candidates = []
    for name, kept in ours.items():
        for partner, facing in theirs.items():
            if kept.shape == facing.shape and kept.sample.size:
                distance = _distance(kept.sample, facing.sample)
                if distance <= _NEAR:
                    candidates.append((distance, name, partner))
    pairs: list[Pair] = []
    taken: tuple[set[str], set[str]] = (set(), set())
    for _, name, partner in sorted(candidates):
        if name not in taken[0] and partner not in taken[1]:
            taken[0].add(name)
            taken[1].add(partner)
            pairs.append(Pair(name, partner))
    return pairs


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference against the mean size; infinite where a value is not finite."""
    with np.errstate(all="ignore"):
        size = (np.abs(one).mean() + np.abs(other).mean()) / 2
        distance = float(np.abs(one - other).mean() / size) if size else 0.0
    return distance if np.isfinite(distance) else float("inf")
