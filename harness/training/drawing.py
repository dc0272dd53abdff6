"""What the steps of an implementation draw at random, in plain words, and how two draw alike."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.cases import families
from harness.cases.settings import Case
from harness.randomness import alignment
from harness.randomness.alignment import Numbers
from harness.randomness.freshness import Drawn
from harness.terminal.errors import UserError
from harness.terminal.text import shortlist
from harness.training import beginning, data, losses
from harness.training.parallel.mesh import Grid
from models.seam import Batch, Family, Implementation, Outcome
from models.shared.trees import perturbed


def implementation(case: Case, impl: str, grid: Grid) -> Implementation:
    """What the case trains: the family's own or, with run.align_random, one that draws alike."""
    family = families.of(case)
    own = family.get(impl)
    if not case.run.align_random:
        return own
    if case.parallel.stage != 1:
        raise UserError(f"run.align_random=true: not with parallel.stage={case.parallel.stage}")
    numbers = aligned_numbers(case, grid)[family.names.index(impl)]
    return as_numbered(own, family, numbers)


def as_numbered(own: Implementation, family: Family, numbers: Numbers) -> Implementation:
    """The implementation with its draws made by these numbers."""
    if not numbers.any:
        return own

    def loss(config: Any, *arguments: Any) -> Outcome:
        def evaluate(params: Any, model_state: Any, batch: Batch, key: jax.Array) -> Outcome:
            return losses.evaluate(family, own, config, (params, model_state), batch, key)

        outcome: Outcome = alignment.aligned(evaluate, numbers)(*arguments)
        return outcome

    aligned: Any = losses.WithLoss(own, loss)
    return aligned


def aligned_numbers(case: Case, grid: Grid) -> tuple[Numbers, Numbers]:
    """The numbers of what either side of a case draws with a key that the other has not."""
    family = families.of(case)
    a, b = (drawn(case, family.get(impl), grid) for impl in family.names)
    return alignment.numbered(a, b)


def drawn(case: Case, implementation: Implementation, grid: Grid) -> Drawn:
    """What the first steps of a run draw; its parameters are moved, that none hides a mask."""
    family = families.of(case)
    initial = family.get(family.names[0])
    model = beginning.resolved(case, grid.platform)
    seed = jnp.uint32(case.run.seed)
    batch = data.picked(data.on_host(case, grid), 0, data.count(case))
    if case.data.microbatches > 1:  # one is like the other, but for its key
        batch = jax.tree.map(lambda array: array[0], batch)

    def begin() -> Any:
        params, model_state = beginning.variables(initial, implementation, model, seed)
        return perturbed(params, case.run.seed), model_state

    def step(variables: Any, key: jax.Array) -> tuple[Any, Any]:
        outcome = losses.evaluate(family, implementation, model, variables, batch, key)
        return (outcome.loss, outcome.metrics), (variables[0], outcome.model_state)

    with grid.in_force():
        return Drawn(begin, step, lambda number: beginning.step_key(seed, number))


def fingerprint(found: Drawn) -> str | None:
    """Equal for steps that draw with the same keys, in whatever order; None where nothing is."""
    keys = np.unique(found.words(), axis=0)
    return hashlib.sha256(keys.tobytes()).hexdigest() if len(keys) else None


def findings(found: Drawn) -> list[str]:
    """What is amiss with the draws of a step, a line each; nothing of the step is computed."""
    lines = []
    for line, (some, every, again) in found.stale().items():
        of = "" if some == every else f" ({some} of its {every} draws)"
        stays = _listed_counters(found.standing(line))
        when = "in every step" if again == 1 else f"again after {again} steps"
        lines.append(f"draws the same random numbers {when}, at {line}{of}{stays}")
    for places in found.shared():
        lines.append(f"draws twice with one key, at {' and '.join(places)}")
    lines += [
        f"draws in a loop or branch that is not looked into, at {one}" for one in found.unseen
    ]
    return lines


def _listed_counters(paths: list[str]) -> str:
    """What should have counted the draws; a stream's own key always stays as it is."""
    named = [path.partition("/random/")[2] or path for path in paths]
    counters = [path for path in named if not path.endswith("/key")]
    return f": {shortlist(counters)} stays as it is" if counters else ""


def told(case: Case, sides: Iterable[tuple[str, Implementation]], grid: Grid) -> Iterator[str]:
    """A line for all that is amiss with what each side draws; their steps are computed to see it.

    sides: implementations, each with its name.
    """
    for name, implementation in sides:
        found = drawn(case, implementation, grid)
        for line in [*findings(found), *idle(found)]:
            yield f"random: {name} {line}"


def idle(found: Drawn) -> list[str]:
    """A line for each place whose draws change nothing; the step is computed to see it."""
    return [f"draws random numbers that change nothing, at {line}" for line in found.idle()]


def differing(names: tuple[str, str], numbers: tuple[Numbers, Numbers]) -> list[str]:
    """That two sides draw with other keys, and where first; [] where their keys are the same."""
    if not any(one.any for one in numbers):
        return []
    counts = " and ".join(
        f"{len(one.lines)} of {name}" for name, one in zip(names, numbers, strict=True)
    )
    places = [
        f"{name} at {one.lines[0]}" for name, one in zip(names, numbers, strict=True) if one.any
    ]
    return [f"keys that differ: {counts}; the first: {', '.join(places)}"]


def repeating(names: tuple[str, str], numbers: tuple[Numbers, Numbers]) -> list[str]:
    """That one side draws with keys of earlier steps where the other has new ones; else []."""
    drawn = [sorted(zip(one.numbers[one.again > 0].tolist(), one.again[one.again > 0].tolist(),
                        strict=True)) for one in numbers]  # fmt: skip
    if drawn[0] == drawn[1]:
        return []
    counts = " and ".join(
        f"{len(kept)} of {name}'s {one.again.size}"
        for name, kept, one in zip(names, drawn, numbers, strict=True)
    )
    often = {gap for one in drawn for _, gap in one}
    when = "in every step" if often == {1} else f"again after {min(often)} steps"
    return [f"the same {when} are {counts} random draws"]
