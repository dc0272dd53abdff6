"""Losses that know which targets are to be learned."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


@jax.named_scope("loss")
def live_cross_entropy(
    logits: jax.Array, targets: jax.Array, z_loss: float
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Mean over the live targets of their cross entropy and `z_loss` times the square of lse.

    lse is the logarithm of the logits' normaliser; a target is live above 0, which is padding.
    logits [B, T, V], of any precision; targets [B, T].

    Metrics: z_loss, the mean of lse^2; accuracy, of the first of equal largest logits;
    live_targets, and total_weights, which is the same.
    """
    largest = jnp.argmax(logits, axis=-1)  # [B, T]
    logits = logits.astype(jnp.float32)
    live = (targets > 0).astype(jnp.float32)
    count = jnp.sum(live)
    lse = jax.nn.logsumexp(logits, axis=-1)  # [B, T]
    is_target = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 2) == targets[..., None]
    # A mask picks the target's logit as part of the pass that makes lse. One beyond V has none,
    # and no cross entropy.
    target_logits = jnp.sum(jnp.where(is_target, logits, 0), axis=-1)
    cross_entropy = jnp.where(targets < logits.shape[-1], lse - target_logits, 0)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(live * values) / jnp.maximum(count, 1)

    loss = mean(cross_entropy + z_loss * lse * lse)
    return loss, {
        "z_loss": mean(lse * lse),
        "accuracy": mean((largest == targets).astype(jnp.float32)),
        "live_targets": count,
        "total_weights": count,
    }
