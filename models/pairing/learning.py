"""Finds by experiment which arrays of two models are partners: equal values, one gradient each."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from models.pairing import composing, links, partners, values
from models.pairing.layouts import Shape
from models.pairing.links import Link
from models.pairing.probing import Probe, Tried, Values

AGREE = 2e-3  # relative, of losses and gradients of one function computed in two ways


@dataclass(frozen=True)
class Learnt:
    """What an experiment tells of two models.

    params, state: the links of parameters and of what else a step changes. alone: the arrays of
    each side that have no partner. differing: those whose gradient, or value after a step, does not
    agree with its partner's, with how far they are apart. farthest: of what agrees but is not equal
    bit for bit, the loss too, the farthest apart. loss: both losses. by_start: see values.of.
    """

    params: tuple[Link, ...]
    state: tuple[Link, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    differing: Mapping[str, float]
    farthest: tuple[str, float] | None
    loss: tuple[float, float]
    by_start: bool

    @property
    def agrees(self) -> bool:
        """Whether losses and all gradients are those of one function."""
        return not self.differing and apart(*self.loss) < AGREE


class _Experiment:
    """Both models with the same values, as far as their layouts are known."""

    def __init__(self, a: Probe, b: Probe, by_start: bool) -> None:
        self.a, self.b = a, b
        self.by_start = by_start

    def run(
        self,
        known: Sequence[Link],
        same: tuple[Collection[str], Collection[str]] = ((), ()),
        state: Sequence[Link] = (),
    ) -> tuple[Tried, Tried]:
        """What both give when these links are known, and those of `same` hold one number."""
        ours = values.of(self.a.params, same[0], self.by_start)
        theirs = values.of(self.b.params, same[1], self.by_start)
        held, other = values.of(self.a.state), values.of(self.b.state)
        return self.a.run(ours, held), self.b.run(
            carried(known, ours, theirs, self.b.params), carried(state, held, other, self.b.state)
        )

    def apart(
        self, known: Sequence[Link], new: Sequence[Link], same: tuple[set[str], set[str]]
    ) -> float:
        """How far the models are from one another: of the loss, and of the new links' gradients."""
        ours, theirs = self.run(known, same)
        made = links.to_b(new, ours.gradients, self.b.shapes)
        far = [
            partners.distance(np.asarray(one), theirs.gradients[path]) for path, one in made.items()
        ]
        return max([apart(ours.loss, theirs.loss), *(one for one in far if np.isfinite(one))])


def carried(known: Sequence[Link], ours: Values, theirs: Values, like: Values) -> Values:
    """Side b's arrays with those that are linked made of side a's."""
    made = links.to_b(known, ours, {path: array.shape for path, array in like.items()})
    return {**theirs, **typed(made, like)}


def typed(arrays: Values, like: Values) -> dict[str, np.ndarray]:
    """The arrays in the types of others of their names."""
    return {path: np.asarray(one).astype(like[path].dtype) for path, one in arrays.items()}


def learn(a: Probe, b: Probe, names: Mapping[str, str]) -> Learnt:
    """The partners of all arrays of two models.

    names: partners that are given, side b's path by side a's; they are taken as they are.
    """
    found = _learn(_Experiment(a, b, by_start=False), names)
    if found.agrees:
        return found
    again = _learn(_Experiment(a, b, by_start=True), names)
    return again if again.agrees else found


def _learn(experiment: _Experiment, names: Mapping[str, str]) -> Learnt:
    a, b = experiment.a, experiment.b
    given = [Link(((one,),), ((other,),), "hand") for one, other in names.items()
             if one in a.params and other in b.params]  # fmt: skip
    composed = _composed(experiment, given)
    known = [*given, *composed]
    ours, theirs = experiment.run(known)
    found = partners.match(
        partners.without(a.seen(ours.gradients), links.paths(known, 0)),
        partners.without(b.seen(theirs.gradients), links.paths(known, 1)),
    )
    params = [*known, *found]
    state = _of_state(a, b, ours, theirs, names)
    if any(not _is_real(a.state[path]) for path in links.paths(state, 0)):
        # Counters keep the numbers that they start from, and two models may start otherwise.
        ours, theirs = experiment.run(known, state=state)
    far = apart_by_array(params, state, b, ours, theirs)
    rest = {"the loss": apart(ours.loss, theirs.loss)} | {
        path: one for path, (one, agrees) in far.items() if agrees
    }
    farthest = max(rest.items(), key=lambda one: one[1])
    return Learnt(
        tuple(params),
        tuple(state),
        (_alone(a, params, state, 0), _alone(b, params, state, 1)),
        _in_order(a, {path: one for path, (one, agrees) in far.items() if not agrees}),
        farthest if farthest[1] else None,
        (ours.loss, theirs.loss),
        experiment.by_start,
    )


def apart_by_array(
    params: Sequence[Link], state: Sequence[Link], b: Probe, ours: Tried, theirs: Tried
) -> dict[str, tuple[float, bool]]:
    """Of gradients and state that are not bit-equal: how far apart, and whether that agrees."""
    held = {path: array.shape for path, array in b.state.items()}
    return _distances(b.shapes, params, ours.gradients, theirs.gradients) | _distances(
        held, state, ours.state, theirs.state
    )


def _composed(experiment: _Experiment, given: Sequence[Link]) -> list[Link]:
    """Links of arrays that are laid out otherwise than by folding axes; [] when none is."""
    a, b = experiment.a, experiment.b
    shapes = (
        {path: a.shapes[path] for path in a.shapes.keys() - links.paths(given, 0)},
        {path: b.shapes[path] for path in b.shapes.keys() - links.paths(given, 1)},
    )
    loose = _open(*shapes, (math.prod, tuple))
    if not any(loose):
        loose = _open(*shapes, (tuple,))
        ours, theirs = experiment.run(given)
        if apart(ours.loss, theirs.loss) < AGREE or not any(loose):
            return []
    units = (
        composing.units({path: a.shapes[path] for path in loose[0]}, a.places,
                        {path: b.shapes[path] for path in loose[1]}),
        composing.units({path: b.shapes[path] for path in loose[1]}, b.places,
                        {path: a.shapes[path] for path in loose[0]}),
    )  # fmt: skip

    def score(new: Sequence[Link]) -> float:
        same = ({*loose[0]} - links.paths(new, 0), {*loose[1]} - links.paths(new, 1))
        return experiment.apart([*given, *new], new, same)

    return composing.compose(*units, score)


def _open(
    a: Mapping[str, Shape],
    b: Mapping[str, Shape],
    forms: Sequence[Callable[[Shape], object]],
) -> tuple[list[str], list[str]]:
    """The arrays of which, in none of these forms of their shape, both sides have as many."""
    counts = [[Counter(map(form, side.values())) for form in forms] for side in (a, b)]

    def is_open(shape: Shape) -> bool:
        return all(ours[form(shape)] != theirs[form(shape)]
                   for form, ours, theirs in zip(forms, *counts, strict=True))  # fmt: skip

    ours, theirs = ([path for path, shape in side.items() if is_open(shape)] for side in (a, b))
    return ours, theirs


def _of_state(
    a: Probe, b: Probe, ours: Tried, theirs: Tried, names: Mapping[str, str]
) -> list[Link]:
    """Links of state; of what values do not tell, those of one kind and shape alone."""
    given = [Link(((one,),), ((other,),), "hand") for one, other in names.items()
             if one in a.state and other in b.state]  # fmt: skip
    found = partners.match(
        partners.without(a.seen(ours.state), links.paths(given, 0)),
        partners.without(b.seen(theirs.state), links.paths(given, 1)),
    )
    return given + [
        link for link in found
        if link.how == "value" or _of_one_kind(link, a, b)
    ]  # fmt: skip


def _of_one_kind(link: Link, a: Probe, b: Probe) -> bool:
    one, other = link.a[0][0], link.b[0][0]
    return partners.kind(one) == partners.kind(other) and a.state[one].shape == b.state[other].shape


def _alone(
    probe: Probe, params: Sequence[Link], state: Sequence[Link], side: Literal[0, 1]
) -> tuple[str, ...]:
    linked = links.paths([*params, *state], side)
    return tuple(path for path in (*probe.params, *probe.state) if path not in linked)


def _distances(
    shapes: Mapping[str, Shape],
    known: Sequence[Link],
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
) -> dict[str, tuple[float, bool]]:
    """By side a's path, of what is not bit-equal: how far apart, and whether that agrees."""
    largest = max((float(np.linalg.norm(one)) for one in ours.values()), default=0.0)
    found: dict[str, tuple[float, bool]] = {}
    for link in known:
        made = link.to_b(ours, shapes)
        for path, one in made.items():
            array, other = np.asarray(one), theirs[path]
            if np.array_equal(array, other.reshape(array.shape), equal_nan=True):
                continue
            far = partners.distance(array, other)
            # What is 0 but for rounding has no direction: it is told beside the largest.
            norm = max(float(np.linalg.norm(array)), float(np.linalg.norm(other)))
            small = norm < 1e-6 * largest
            far = min(far, norm / largest) if small else far
            name = link.a[0][0]
            before, agreed = found.get(name, (0.0, True))
            agrees = far <= AGREE or small
            found[name] = (max(far, before), agreed and agrees)
    return found


def _in_order(a: Probe, differing: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(differing.items(), key=lambda one: (a.places[one[0]], one[0])))


def _is_real(array: np.ndarray) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def apart(one: float, other: float) -> float:
    """How far two numbers are apart, of the larger one."""
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else 0.0
