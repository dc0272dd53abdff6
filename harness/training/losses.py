"""Losses of logits, and the whole forward pass of a family that ends in one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models.seam import Batch, Family, Implementation, Outcome, Params


class WithLoss:
    """An implementation that has another loss; all else is its own."""

    def __init__(self, own: Implementation, loss: Callable[..., Outcome]) -> None:
        self._own, self.loss = own, loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def evaluate(
    family: Family,
    implementation: Implementation,
    config: Any,
    variables: tuple[Params, Params | None],
    batch: Batch,
    key: jax.Array,
) -> Outcome:
    """The loss and metrics of parameters and model state; `key` is the step's."""
    params, model_state = variables
    own = getattr(implementation, "loss", None)
    if own is not None:
        outcome: Outcome = own(config, params, model_state, batch, key)
        return outcome
    logits = implementation.apply(config, params, batch["inputs"], key)
    value, metrics = (family.loss or cross_entropy)(logits, batch)
    return Outcome(value, metrics)


@jax.named_scope("loss")
def cross_entropy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Mean cross entropy of float32 logits [B, T, V] at targets [B, T], and the targets' number.

    The target's logit is picked by a mask, not by an index: that is one more sum over the pass that
    computes the normaliser, where a gather would have the compiler write out all logits in float32
    (a quarter of a gigabyte for 2,048 tokens) and keep them.
    """
    targets = batch["targets"]
    total_weights = jnp.asarray(targets.size, jnp.float32)
    is_target = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 2) == targets[..., None]
    target_logits = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)  # [B, T]
    losses = jax.nn.logsumexp(logits, axis=-1) - target_logits
    return jnp.sum(losses) / (total_weights + 1e-8), {"total_weights": total_weights}
