"""What bisect can be asked: of two implementations, of one under other settings, of kept sides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from harness.bisecting import computing, parting
from harness.bisecting.computing import Side
from harness.bisecting.telling import Found
from harness.cases import families
from harness.cases.settings import Case
from harness.randomness import alignment
from harness.terminal.errors import UserError
from harness.training import data, drawing, evaluating, losses, train_step
from harness.training.parallel import mesh
from models.seam import Batch, Family, Implementation, Outcome


def _as_evaluated(own: Implementation, family: Family) -> losses.WithLoss:
    """An implementation whose loss is how it is evaluated, which leaves the model's state be."""

    def loss(config: Any, params: Any, model_state: Any, batch: Batch, key: jax.Array) -> Outcome:
        variables = params, model_state
        made = evaluating.evaluated(family, own, config, variables, batch, key)
        return made._replace(model_state=model_state)

    return losses.WithLoss(own, loss)


def has_evaluation(*implementations: Implementation) -> bool:
    """Whether these are evaluated otherwise than they are trained."""
    return all(hasattr(one, "evaluation") for one in implementations)


def of_pair(case: Case, evaluated: bool = False) -> Found:
    """One step of a pair's two implementations, from its first one's parameters, each moved.

    evaluated: an evaluation instead.
    """
    family, grid = families.of(case), mesh.make(case, jax.devices()[:1])
    first, second = family.names
    (params, state), (_, other) = (computing.fresh(case, name, grid) for name in family.names)
    sides = family.get(first), family.get(second)
    return between(case, (first, second), *sides, params, (state, other), evaluated=evaluated)


def between(
    case: Case,
    names: tuple[str, str],
    a: Implementation,
    b: Implementation,
    params: Any,
    model_states: tuple[Any, Any] = (None, None),
    align_random: bool = True,
    evaluated: bool = False,
) -> Found:
    """One step of two implementations from the same parameters, on one batch and one device.

    evaluated: an evaluation instead, a forward pass alone.
    """
    grid, family = mesh.make(case, jax.devices()[:1]), families.of(case)
    both: list[Any] = [_as_evaluated(one, family) for one in (a, b)] if evaluated else [a, b]
    numbers = alignment.numbered(*(drawing.drawn(case, one, grid) for one in both))
    if align_random:
        both = [drawing.as_numbered(*one) for one in zip(both, (family,) * 2, numbers, strict=True)]
    sides = [
        computing.side(name, case, one, params, state, grid, forward=evaluated)
        for name, one, state in zip(names, both, model_states, strict=True)
    ]
    # No evaluation carries on what it draws with.
    repeating = [] if evaluated else drawing.repeating(names, numbers)
    return compared(sides[0], sides[1], drawing.differing(names, numbers), repeating)


def against(
    case: Case, other: Case, impl: str, words: str, variables: tuple[Any, Any], here: Any
) -> Found:
    """One implementation under other settings, and as the case has it, on one device.

    The latter comes second: it can be computed anew.
    """
    if other.parallel.stage != 1:
        raise UserError(f"--against {words!r}: not with parallel.stage={other.parallel.stage}")
    grids = mesh.make(other, here), mesh.make(case, here[:1])
    batch = data.global_batch(other, grids[0].batch_parts)
    sides = []
    for name, one, grid in zip((words, impl), (other, case), grids, strict=True):
        same = replace(one, global_batch=batch)
        trainer = train_step.make_trainer(same, impl, grid)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.state)
        params, state = variables
        placed = jax.device_put(params, shardings["params"])
        if state is not None:
            state = jax.device_put(state, shardings["model_state"])
        sides.append(computing.side(name, same, families.of(same).get(impl), placed, state, grid))
    return compared(sides[0], sides[1])


def compared(a: Side, b: Side, random: Sequence[str] = (), repeating: Sequence[str] = ()) -> Found:
    """Where two sides part; random, repeating: what is known of their draws, as Found has it.

    A metric that one side alone tells is none of both.
    """
    alone = a.trace.outputs.keys() ^ b.trace.outputs.keys()
    missing = sorted(path for path in alone if not path.startswith("metrics/"))
    if missing:
        raise UserError(f"{a.name} and {b.name} do not make the same: {missing[0]} is of one alone")
    for side in (a, b):
        for path in alone & side.trace.outputs.keys():
            del side.trace.outputs[path]
    return Found((a, b), parting.part(a.trace, b.trace, a.layer_axes), random, repeating)
