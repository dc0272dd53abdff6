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


@dataclass(frozen=True)
class Further:
    """What else an experiment tells of two models.

    later: of the first step that does not agree, what does not and how far apart it is; the first
    one is the one that was learnt from, the later ones take other batches and begin with what the
    one before left. evaluated: likewise of an evaluation. started: arrays whose fresh values are
    others, in words. unused: parameters that neither side's step takes.
    """

    later: tuple[int, Mapping[str, float]]
    evaluated: Mapping[str, float]
    started: tuple[str, ...]
    unused: tuple[str, ...]


def further(
    a: Probe, b: Probe, learnt: Learnt, evaluators: tuple[Side, Side] | None = None
) -> Further:
    """Tries two models that are linked; of those that differ at once nothing more is computed.

    evaluators: the sides as they are evaluated, None where nothing says so.
    """
    alike = learnt.agrees
    return Further(
        _later(a, b, learnt) if alike else (0, {}),
        _evaluated(a, b, learnt, evaluators) if alike and evaluators is not None else {},
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


def _later(a: Probe, b: Probe, learnt: Learnt) -> tuple[int, Mapping[str, float]]:
    (ours, held), (theirs, other) = _given(a, b, learnt)
    for number in range(len(a.batches)):
        one, two = a.run(ours, held, number), b.run(theirs, other, number)
        if not (np.isfinite(one.loss) or np.isfinite(two.loss)):
            break
        apart = _apart(learnt.params, learnt.state, b, one, two)
        if apart:
            return number, apart
        held = {**held, **learning.typed(one.state, a.state)}
        other = {**other, **learning.typed(two.state, b.state)}
    return 0, {}


def _apart(
    params: Sequence[Link], state: Sequence[Link], b: Probe, one: Tried, two: Tried
) -> dict[str, float]:
    """What does not agree: the loss, metrics that both tell, gradients, state."""
    told = {"the loss": (one.loss, two.loss)} | {
        name: (metric, two.metrics[name])
        for name, metric in one.metrics.items()
        if name in two.metrics
    }
    found = {name: learning.apart(*both) for name, both in told.items()}
    arrays = learning.apart_by_array(params, state, b, one, two)
    return {name: far for name, far in found.items() if not far < learning.AGREE} | {
        path: far for path, (far, agrees) in arrays.items() if not agrees
    }


def _evaluated(
    a: Probe, b: Probe, learnt: Learnt, evaluators: tuple[Side, Side]
) -> Mapping[str, float]:
    ours, theirs = _given(a, b, learnt)
    one, two = a.evaluated(evaluators[0], *ours), b.evaluated(evaluators[1], *theirs)
    known = [
        link
        for link in learnt.state  # an evaluation need not have all that a step changes
        if links.paths([link], 0) <= one.state.keys() and links.paths([link], 1) <= two.state.keys()
    ]
    return _apart((), known, b, one, two)


def _started(a: Probe, b: Probe, known: Sequence[Link]) -> list[str]:
    """Arrays that a fresh model of one side holds otherwise than one of the other side.

    Both draw with keys that give as many numbers the same bits: what is drawn by one rule is equal,
    unless it is drawn together on one side and in parts on the other; then its spread tells.
    """
    found = []
    for link in known:
        first, second = _fresh(a, link.a), _fresh(b, link.b)
        if first.size == 0 or first.size != second.size:
            continue
        spread = float(max(first.std(), second.std()))
        scale = spread or float(np.abs(first).max())
        if np.abs(first - second).max() <= _EQUAL * scale:
            continue
        drawn = min(_least(a, link.a), _least(b, link.b))
        if drawn == first.size or not _by_chance(first, second, drawn):
            found.append(f"{link.a[0][0]}: {_told(first)} and {_told(second)}")
    return found


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
