"""Evaluations: a forward pass alone, on data that is not trained on, between two steps."""

import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from harness.cases import families
from harness.cases.settings import Case
from harness.training import beginning, data, losses
from harness.training.train_step import State, Trainer
from models.seam import Batch, Family, Implementation, Outcome, Params
from models.shared import ops


def due(case: Case, step: int) -> bool:
    """Whether the state after this step is evaluated; steps count from 0, and `every` from 1."""
    every = case.eval.every
    return every is not None and ((step + 1) % every == 0 or step == case.run.steps - 1)


class Evaluation:
    """A compiled forward pass, and the batches that it is given each time, each in its parts."""

    def __init__(
        self,
        compiled: jax.stages.Compiled,
        batches: Sequence[Sequence[data.Batch]],
        seed: Any,
        family: Family,
    ) -> None:
        self._compiled = compiled
        self._batches = batches
        self._seed = seed
        self._family = family

    def __call__(self, state: State) -> tuple[dict[str, float], float]:
        """The metrics of all batches, and the seconds that they took.

        Those that count are summed; the loss and all others are means over all targets, also those
        that are derived of each batch.
        """
        begun = time.perf_counter()
        variables = _variables(state)
        told = [
            [self._compiled(variables, part, self._seed) for part in batch]
            for batch in self._batches
        ]
        found: list[list[Mapping[str, Any]]] = jax.device_get(told)
        seconds = time.perf_counter() - begun
        batches = [self._together(parts) for parts in found]
        derived = [jax.device_get(self._family.derived(one)) for one in batches]
        whole = [{**one, **more} for one, more in zip(batches, derived, strict=True)]
        return self._together(whole), seconds

    def _together(self, found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The metrics of several parts, or of several batches."""
        weights = [float(one["total_weights"]) for one in found]
        total = sum(weights)

        def whole(name: str) -> float:
            values = [float(one[name]) for one in found]
            if name in self._family.counts:
                return sum(values)
            return sum(map(operator.mul, values, weights)) / (total or 1)

        return {name: whole(name) for name in found[0]}


def evaluated(
    family: Family,
    implementation: Implementation,
    model: Any,
    variables: tuple[Params, Params | None],
    batch: Batch,
    key: jax.Array,
) -> Outcome:
    """One forward pass of a model as it is evaluated."""
    model, (params, model_state) = family.evaluated(model), variables
    dtype = family.compute_dtype(model)
    if dtype is not None:
        params = ops.cast(params, dtype)
    own = getattr(implementation, "evaluation", None)
    if own is None:
        variables = params, model_state
        return losses.evaluate(family, implementation, model, variables, batch, key)
    outcome: Outcome = own(model, params, model_state, batch, key)
    return outcome


def compiled(
    case: Case, impl: str, trainer: Trainer, state: State, batches: Sequence[Sequence[data.Batch]]
) -> Evaluation:
    """The evaluation of states that lie as this one does, on batches of the host in their parts."""
    family, grid = families.of(case), trainer.grid
    implementation = family.get(impl)

    def forward(variables: State, batch: data.Batch, seed: jax.Array) -> Mapping[str, jax.Array]:
        both = variables["params"], variables.get("model_state")
        key = beginning.seed_key(seed)
        outcome = evaluated(family, implementation, trainer.model, both, batch, key)
        return {"loss": outcome.loss, **outcome.metrics}

    placed = [[data.placed(part, grid.batch) for part in batch] for batch in batches]
    seed = jax.device_put(case.run.seed, grid.replicated)
    variables = _variables(state)
    formats = jax.tree.map(lambda leaf: leaf.format, variables)
    jitted = jax.jit(forward, in_shardings=(formats, None, None), out_shardings=grid.replicated)
    with grid.in_force():
        lowered = jitted.lower(variables, placed[0][0], seed)
    forward_pass = lowered.compile(compiler_options=trainer.compiler_options)
    return Evaluation(forward_pass, placed, seed, family)


def _variables(state: State) -> State:
    """What a forward pass takes of a state."""
    return {name: state[name] for name in ("params", "model_state") if name in state}
