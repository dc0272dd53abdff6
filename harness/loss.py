"""The loss: cross entropy per token."""

import jax
import jax.numpy as jnp
import optax


@jax.named_scope("loss")
def cross_entropy(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean cross entropy of float32 logits [B, T, V] at targets [B, T], and the targets' number."""
    total_weights = jnp.asarray(targets.size, jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)  # [B, T]
    return jnp.sum(losses) / (total_weights + 1e-8), total_weights
