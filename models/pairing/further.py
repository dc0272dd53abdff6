"""What one step of equal values does not show of two models: later steps, and how they are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.pairing import learning, links, values
from models.pairing.learning import Learnt
from models.pairing.links import Link
from models.pairing.probing import Probe, Tried, Values
from models.pairing.sides import Side

_SPREADS = 6  # standard errors: what is drawn otherwise may be so far apart by chance
_EQUAL = 1e-3  # of what is drawn alike, relative
_FEWEST = 30  # numbers, below which a spread tells nothing
_OFTEN = 1.25  # times fewer different numbers: some were drawn once for several places


@dataclass(frozen=True)
class Further:
    """What else an experiment tells of two models.

    later: of the first step that does not agree, what does not and how far apart it is; the first
    one is the one that was learnt from, the later ones take other batches and begin with what the
    one before left. evaluated: likewise of an evaluation. drawing: which sides draw random numbers
    in one. farthest: of what agrees in later steps and in an evaluation but is not equal bit for
    bit, the farthest apart. started: arrays whose fresh values are others, in words. unused:
    parameters that neither side's step takes.
    """

    later: tuple[int, Mapping[str, float]]
    evaluated: Mapping[str, float]
    drawing: tuple[bool, bool]
    farthest: Mapping[str, tuple[str, float]]
    started: tuple[str, ...]
    unused: tuple[str, ...]


def further(
    a: Probe, b: Probe, learnt: Learnt, evaluators: tuple[Side, Side] | None = None
) -> Further:
    """Tries two models that are linked; of those that differ at once nothing more is computed.

    evaluators: the sides as they are evaluated, None where nothing says so.
    """
    alike = learnt.agrees
    number, later = _later(a, b, learnt) if alike else (0, {})
    evaluated, drawing = (
        _evaluated(a, b, learnt, evaluators)
        if alike and evaluators is not None
        else ({}, (False, False))
    )
    near = {
        "in later steps": _those(later, agreeing=True),
        "as they are evaluated": _those(evaluated, agreeing=True),
    }
    return Further(
        (number, _those(later, agreeing=False)),
        _those(evaluated, agreeing=False),
        drawing,
        {when: max(far.items(), key=lambda one: one[1]) for when, far in near.items() if far},
        tuple(_started(a, b, [*learnt.params, *learnt.state])),
        tuple(sorted(a.unused & _partners(learnt.params, b.unused))),
    )


def _partners(known: Sequence[Link], theirs: frozenset[str]) -> set[str]:
    """The arrays of side a all of whose partners are among these of side b."""
    return {
        path
        for link in known
        if all(one in theirs for group in link.b for one in group)
        for group in link.a
        for path in group
    }


def _given(
    a: Probe, b: Probe, learnt: Learnt
) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
    """Parameters and state of both sides, of equal values as far as they are linked."""
    params, state = values.of(a.params, (), learnt.by_start), values.of(a.state)
    return (params, state), (
        learning.carried(learnt.params, params, values.of(b.params), b.params),
        learning.carried(learnt.state, state, values.of(b.state), b.state),
    )


# By name, of what is not equal: how far it is apart, and whether that agrees.
_Apart = Mapping[str, tuple[float, bool]]


def _those(found: _Apart, *, agreeing: bool) -> dict[str, float]:
    return {name: far for name, (far, agrees) in found.items() if agrees == agreeing}


def _later(a: Probe, b: Probe, learnt: Learnt) -> tuple[int, _Apart]:
    """The first step that does not agree; of steps that do, what the last one made."""
    (ours, held), (theirs, other) = _given(a, b, learnt)
    apart: _Apart = {}
    for number in range(len(a.batches)):
        one, two = a.run(ours, held, number), b.run(theirs, other, number)
        if not (np.isfinite(one.loss) or np.isfinite(two.loss)):
            break
        apart = _apart(learnt.params, learnt.state, b, one, two)
        if _those(apart, agreeing=False):
            return number, apart
        held = {**held, **learning.typed(one.state, a.state)}
        other = {**other, **learning.typed(two.state, b.state)}
    return 0, apart


def _apart(
    params: Sequence[Link], state: Sequence[Link], b: Probe, one: Tried, two: Tried
) -> _Apart:
    """What is not equal bit for bit: the loss, metrics that both tell, gradients, state."""
    told = {"the loss": (one.loss, two.loss)} | {
        name: (metric, two.metrics[name])
        for name, metric in one.metrics.items()
        if name in two.metrics
    }
    found = {name: learning.apart(*both) for name, both in told.items()}
    return {name: (far, far < learning.AGREE) for name, far in found.items() if far != 0} | {
        **learning.apart_by_array(params, state, b, one, two)
    }


def _evaluated(
    a: Probe, b: Probe, learnt: Learnt, evaluators: tuple[Side, Side]
) -> tuple[_Apart, tuple[bool, bool]]:
    """What is not equal bit for bit, and which sides draw random numbers."""
    ours, theirs = _given(a, b, learnt)
    one, two = a.evaluated(evaluators[0], *ours), b.evaluated(evaluators[1], *theirs)
    known = [
        link
        for link in learnt.state  # an evaluation need not have all that a step changes
        if links.paths([link], 0) <= one.state.keys() and links.paths([link], 1) <= two.state.keys()
    ]
    return _apart((), known, b, one, two), (one.is_random, two.is_random)


def _started(a: Probe, b: Probe, known: Sequence[Link]) -> list[str]:
    """Arrays that a fresh model of one side holds otherwise than one of the other side.

    Both draw with keys that give as many numbers the same bits: what is drawn by one rule is equal,
    unless it is drawn together on one side and in parts on the other; then its spread tells, and
    how many of its numbers there are once.
    """
    found = []
    for link in known:
        first, second = _fresh(a, link.a), _fresh(b, link.b)
        if first.size == 0 or first.size != second.size:
            continue
        name, counts = link.a[0][0], (_different(a, link.a), _different(b, link.b))
        drawn = min(_least(a, link.a), _least(b, link.b))
        is_near = _is_near(first, second)
        if not is_near and (drawn == first.size or not _by_chance(first, second, drawn)):
            found.append(f"{name}: {_told(first)} and {_told(second)}")
        elif max(counts) > _OFTEN * min(counts):
            found.append(f"{name}: {counts[0]} and {counts[1]} different numbers in {first.size}")
        elif is_near and 1 < max(counts) <= first.size / 2 and not _is_arranged(a, b, link):
            found.append(f"{name}: the same numbers in other places")
    return found


def _different(probe: Probe, groups: tuple[tuple[str, ...], ...]) -> int:
    """How many different numbers a fresh model holds in these arrays, drawn by a usual key."""
    arrays = probe.drawn | probe.state
    return np.unique(
        np.concatenate(
            [arrays[path].astype(np.float64).ravel() for group in groups for path in group]
        )
    ).size


def _is_near(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether numbers are those of one rule, drawn alike."""
    scale = float(max(first.std(), second.std())) or float(np.abs(first).max())
    return bool(np.abs(first - second).max() <= _EQUAL * scale)


def _is_arranged(a: Probe, b: Probe, link: Link) -> bool:
    """Whether fresh arrays hold the same numbers in the same places: what is drawn need not."""
    have, want = a.params | a.state, b.params | b.state
    made = link.to_b(have, {path: array.shape for path, array in want.items()})
    return all(
        _is_near(np.asarray(one, np.float64).ravel(), want[path].astype(np.float64).ravel())
        for path, one in made.items()
    )


def _told(fresh: np.ndarray) -> str:
    level = fresh[0]
    if (fresh == level).all():
        return f"{level:g}"
    return f"a deviation of {fresh.std():.2g} in [{level:.2g}, {fresh[-1]:.2g}]"


def _fresh(probe: Probe, groups: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """All numbers of these arrays of a fresh model, the smallest first."""
    arrays = probe.params | probe.state
    numbers = [np.asarray(arrays[path]).astype(np.float64).ravel()
               for group in groups for path in group]  # fmt: skip
    return np.sort(np.concatenate(numbers))


def _least(probe: Probe, groups: tuple[tuple[str, ...], ...]) -> int:
    """The numbers of the smallest of these arrays: equal ones are drawn with equal bits."""
    arrays = probe.params | probe.state
    return min(arrays[path].size for group in groups for path in group)


def _by_chance(first: np.ndarray, second: np.ndarray, drawn: int) -> bool:
    """Whether two drawings of one rule may well have these spreads and means."""
    spreads = float(first.std()), float(second.std())
    if not min(spreads) or drawn < _FEWEST:
        return min(spreads) > 0
    error = _SPREADS / np.sqrt(drawn)
    apart = abs(np.log(spreads[0] / spreads[1]))
    return bool(apart < error and abs(first.mean() - second.mean()) < error * max(spreads))
