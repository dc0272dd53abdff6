"""A step's loss and gradients, of its whole batch at once or of one microbatch after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from models.seam import REPLACED, Batch, Outcome, Params

# Of parameters, model state, the batch of one pass and its key.
Forward = Callable[[Params, Params | None, Batch, jax.Array], Outcome]
Scale = jax.Array | None  # what the loss is multiplied by for its gradients; None: by nothing


def differentiated(
    forward: Forward,
    params: Params,
    model_state: Params | None,
    batch: Batch,
    key: jax.Array,
    scale: Scale = None,
) -> tuple[Outcome, Params]:
    """The outcome of a batch, and the gradients of its scaled loss."""
    replaced = {} if model_state is None else model_state.get(REPLACED, {})

    def loss_of(params: Params, replaced: Params) -> tuple[jax.Array, Outcome]:
        state = {**model_state, REPLACED: replaced} if model_state and replaced else model_state
        outcome = forward(params, state, batch, key)
        return outcome.loss if scale is None else outcome.loss * scale, outcome

    if not replaced:
        (_, outcome), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, {})
        return outcome, gradients
    (_, outcome), (gradients, new) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(
        params, replaced
    )
    return outcome._replace(model_state={**(outcome.model_state or {}), REPLACED: new}), gradients


def accumulated(
    forward: Forward,
    params: Params,
    model_state: Params | None,
    batch: Batch,
    key: jax.Array,
    counts: tuple[str, ...],
    scale: Scale = None,
) -> tuple[Outcome, Params]:
    """`differentiated` of a batch whose arrays are stacked by microbatch, [microbatches, ...].

    The loss is the mean over the targets of all of them: each counts by its total_weights. So do
    other metrics, but for `counts`, which are summed. Gradients are summed in the parameters' type.
    The m-th microbatch's key is fold_in(key, m).
    """
    microbatches = len(jax.tree.leaves(batch)[0])
    usual = batch["targets"][0].size if "targets" in batch else 1

    def weighed(params: Params, state: Params | None, batch: Batch, key: jax.Array) -> Outcome:
        outcome = forward(params, state, batch, key)
        # As a rule one by their number, so that in float16 the sum is no larger than its gradient.
        share = outcome.metrics["total_weights"] / (usual * microbatches)
        return Outcome(
            outcome.loss * share, {"loss": outcome.loss, **outcome.metrics}, outcome.model_state
        )

    def add(carry: Any, given: Any) -> tuple[Any, Any]:
        sums, state = carry
        batch, number = given
        own_key = jax.random.fold_in(key, number)
        outcome, gradients = differentiated(weighed, params, state, batch, own_key, scale)
        return (jax.tree.map(jnp.add, sums, gradients), outcome.model_state), outcome.metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    numbers = jnp.arange(microbatches, dtype=jnp.uint32)
    (sums, state), metrics = jax.lax.scan(add, (zeros, model_state), (batch, numbers))
    weights = metrics["total_weights"]  # [microbatches]
    total = jnp.sum(weights)
    total = jnp.where(total == 0, 1, total)  # of no target at all everything is 0
    found = {
        name: jnp.sum(values) if name in counts else jnp.sum(values * weights) / total
        for name, values in metrics.items()
    }
    factor = usual * microbatches / total
    gradients = jax.tree.map(lambda one: one * factor.astype(one.dtype), sums)
    return Outcome(found.pop("loss"), found, state), gradients
