"""What trying two models out has shown, in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.pairing import links
from models.pairing.further import Further
from models.pairing.learning import Learnt
from models.pairing.probing import Probe
from models.seam import Matched

_FEW = 4  # findings that are told one by one
_QUIET = "model.eval() of an nnx.Module, or deterministic=True, ends that"
_GROWN = 10  # times what a first step makes: steps that follow carry its rounding on


@dataclass(frozen=True)
class Findings:
    """What was found of two sides.

    unsaid: why a side is another one when it is evaluated, where the pair does not say how.
    optimizer: whether the pair has one; trained: whether it says what is trained.
    """

    learnt: Learnt
    further: Further
    probes: tuple[Probe, Probe]
    unsaid: tuple[str, ...]
    optimizer: bool
    trained: bool


def told(names: Sequence[str], found: Findings) -> Matched:
    """All of it, of sides of these names."""
    learnt, further = found.learnt, found.further
    both = " and ".join(names)
    at_once = _differing(both, learnt)
    started = [f"fresh models hold other numbers: {listed(further.started)}"]
    return Matched(
        names=tuple(links.lines([*learnt.params, *learnt.state])),
        alone=tuple(_alone(names, found)),
        differing=(*at_once, *_later(both, further), *_evaluated(names, further)),
        unsure=(*_rounding(both, found), *_written(names, found), *_crossed(names, learnt)),
        started=tuple(started if further.started else ()),
        uncompared=tuple(_uncompared(names, found)),
    )


def _differing(both: str, learnt: Learnt) -> list[str]:
    """In which arrays the sides differ when they are given equal values; of many, the farthest."""
    finite = [*map(math.isfinite, learnt.loss)]
    if learnt.agrees or not any(finite):
        return []
    if not (learnt.differing and all(finite)):
        return [f"{both} make losses of {_losses(learnt)} from equal values"]
    what = f"{both} make another gradient or state from equal values"
    differing = [*learnt.differing.items()]
    if len(differing) <= _FEW:
        return [f"{path}: {what}, {100 * apart:.3g} % apart" for path, apart in differing]
    path, apart = max(differing, key=lambda one: one[1])
    every = len(learnt.params) + len(learnt.state)
    return [
        f"{what} in {len(differing)} of {every} arrays, at most {100 * apart:.3g} % apart ({path})"
    ]


def _rounding(both: str, found: Findings) -> Iterator[str]:
    """What may be rounding: of the first step, which bisect judges, and of what it does not see."""
    learnt = found.learnt
    if learnt.agrees and learnt.farthest is not None:
        what, apart = learnt.farthest
        yield (
            f"{both} make other numbers from equal values, at most {apart:.2g} apart ({what}):"
            " rounding or a fault, harness bisect tells which"
        )
    first = learnt.farthest[1] if learnt.farthest is not None else 0.0
    for when, (what, apart) in found.further.farthest.items():
        if apart > _GROWN * first:
            yield (
                f"{both} make other numbers from equal values {when}, at most {apart:.2g} apart"
                f" ({what}): rounding or a fault"
            )


def _written(names: Sequence[str], found: Findings) -> Iterator[str]:
    """Parameters that a model changes itself, which its own loop would carry on."""
    for name, probe in zip(names, found.probes, strict=True):
        if probe.written:
            paths = listed(sorted(probe.written))
            yield (
                f"{name} writes into its parameters when it is called, and a step here leaves that"
                f" out; what is no nnx.Param is carried on: {paths}"
            )


def _crossed(names: Sequence[str], learnt: Learnt) -> Iterator[str]:
    """Arrays that do the work of one that is called otherwise, though the other side has both."""
    renamed = {link.a[0][0]: link.b[0][0] for link in learnt.params
               if link.plain and link.how == "value"}  # fmt: skip
    crossed = [one for one, other in renamed.items()
               if one != other and one in renamed.values() and other in renamed]  # fmt: skip
    if crossed:
        told = [f"{one} is {renamed[one]}" for one in sorted(crossed)]
        yield (
            f"what {names[0]} and {names[1]} call by one name does not do one thing, so that a"
            f" checkpoint that is carried over by names makes another model: {listed(told)}"
        )


def _losses(learnt: Learnt) -> str:
    return "{:.9g} and {:.9g}".format(*learnt.loss)


def _later(both: str, further: Further) -> Iterator[str]:
    number, apart = further.later
    if apart and number == 0:
        yield f"{both} tell other metrics from equal values: {_far(apart)}"
    elif apart:
        yield f"{both} agree in a first step, and not in step {number + 1}: {_far(apart)}"


def _evaluated(names: Sequence[str], further: Further) -> Iterator[str]:
    if further.evaluated:
        drawing = [name for name, draws in zip(names, further.drawing, strict=True) if draws]
        draws = "draw" if len(drawing) > 1 else "draws"
        why = f"; {' and '.join(drawing)} {draws} random numbers there: {_QUIET}" if drawing else ""
        yield f"{' and '.join(names)} are evaluated otherwise: {_far(further.evaluated)}{why}"


def _far(apart: Mapping[str, float]) -> str:
    return listed([f"{name}, {100 * far:.3g} % apart" for name, far in apart.items()])


def listed(lines: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(lines) - _FEW
    return "; ".join(lines[:_FEW]) + (f"; and {more} more" if more > 0 else "")


def _alone(names: Sequence[str], found: Findings) -> Iterator[str]:
    """What one side alone holds, or takes of the batch."""
    for one, other in ((0, 1), (1, 0)):
        yield from (f"{names[one]}: {path}" for path in found.learnt.alone[one])
        taken = found.probes[other].ignored - found.probes[one].ignored
        yield from (f"{names[one]}: its use of the batch's {array}" for array in sorted(taken))


def _uncompared(names: Sequence[str], found: Findings) -> Iterator[str]:
    """What nothing compares, though both have it or it is of no matter that one alone has it."""
    whose = "the pair's" if found.optimizer else "the case's, as the pair gives none"
    frozen = "" if found.trained else ", and what these freeze"
    yield f"optimizers of their own{frozen}: one trains both, {whose}"
    if not any(map(math.isfinite, found.learnt.loss)):
        yield f"what equal values make: they lead to losses of {_losses(found.learnt)}"
    if found.unsaid:
        yield f"how they are evaluated ({' and '.join(found.unsaid)}, and there is no evaluation=)"
    a, b = found.probes
    if found.further.unused:
        yield f"parameters that no step takes: {listed(found.further.unused)}"
    for array in sorted(a.ignored & b.ignored):
        yield f"the batch's {array}, which neither side takes"
    for array in sorted(a.batches[0].keys() - (a.ignored & b.ignored)):
        values = np.stack([batch[array] for batch in a.batches])
        if values.size and (values == values.flat[0]).all():
            level = float(values.flat[0])
            yield f"other values of the batch's {array}: all are {level:g}"
        elif values.ndim > 2 and (values == values[:1, :1]).all():
            yield f"other values of the batch's {array}: all examples have the same"
    for name, one, other in ((names[0], a, b), (names[1], b, a)):
        if one.metrics - other.metrics:
            yield f"{name}: its metrics {', '.join(sorted(one.metrics - other.metrics))}"
        if one.altered:
            yield f"{name}: attributes that a call changes, {listed(sorted(one.altered))}"
        if one.random:
            more = f" and {len(one.random) - 1} more" if len(one.random) > 1 else ""
            vain = "" if one.is_random else ", with which no step draws: is its dropout put to use?"
            yield f"{name}'s random state ({min(one.random)}{more}){vain}"
