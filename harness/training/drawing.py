"""What the steps of an implementation draw at random, in plain words."""

from typing import Any

import jax
import jax.numpy as jnp

from harness.cases import families
from harness.cases.settings import Case
from harness.randomness.freshness import Drawn
from harness.training import data, losses, train_step
from harness.training.parallel.mesh import Grid
from models.shared.trees import perturbed


def drawn(case: Case, impl: str, grid: Grid) -> Drawn:
    """What the first steps of a run draw; its parameters are moved, that none hides a mask."""
    family = families.of(case)
    implementation = family.get(impl)
    model = train_step.resolved(case, grid.platform)
    seed = jnp.uint32(case.run.seed)
    batch = data.picked(data.on_host(case, grid), 0, data.count(case))

    def begin() -> Any:
        made = implementation.init(model, train_step.step_key(seed, 0))
        params, model_state = train_step.variables_of(made)
        return perturbed(params, case.run.seed), model_state

    def step(variables: Any, key: jax.Array) -> tuple[Any, Any]:
        outcome = losses.evaluate(family, implementation, model, variables, batch, key)
        return (outcome.loss, outcome.metrics), (variables[0], outcome.model_state)

    with grid.in_force():
        return Drawn(begin, step, lambda number: train_step.step_key(seed, number))


def findings(found: Drawn) -> list[str]:
    """What is amiss with the draws of a step, a line each; nothing of the step is computed."""
    lines = []
    for line, (some, every) in found.stale().items():
        of = "" if some == every else f" ({some} of its {every} draws)"
        lines.append(f"draws the same random numbers in every step, at {line}{of}")
    for places in found.shared():
        lines.append(f"draws twice with one key, at {' and '.join(places)}")
    lines += [
        f"draws in a loop or branch that is not looked into, at {one}" for one in found.unseen
    ]
    return lines


def idle(found: Drawn) -> list[str]:
    """A line for each place whose draws change nothing; the step is computed to see it."""
    return [f"draws random numbers that change nothing, at {line}" for line in found.idle()]
