"""What a step computes of logits and gradients, written down once more as plain formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean cross entropy of logits [B, T, V] at targets [B, T]."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), targets[..., None], axis=-1)
    return -jnp.sum(chosen) / (targets.size + 1e-8)


def learning_rate(
    step: int, steps: int, peak: float, warmup_fraction: float, final_fraction: float
) -> float:
    """Up in a line, down in a cosine, then held."""
    warmup = int(warmup_fraction * steps)
    if step < warmup:
        return peak * step / warmup
    falling = steps - warmup
    progress = min((step - warmup) / (falling - 1), 1.0) if falling > 1 else 1.0
    final = final_fraction * peak
    return float(final + (peak - final) * 0.5 * (1 + np.cos(np.pi * progress)))


class AdamW:
    """AdamW behind a clip of the global norm, in float64."""

    def __init__(
        self, b1: float, b2: float, epsilon: float, weight_decay: float, clip_norm: float
    ) -> None:
        self.b1, self.b2, self.epsilon = b1, b2, epsilon
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.count = 0
        self.first: Any = 0.0
        self.second: Any = 0.0

    def update(self, params: Any, gradients: Any, rate: float) -> tuple[Any, float]:
        """The parameters after one step at this learning rate, and the gradients' norm."""
        exact = jax.tree.map(lambda g: np.asarray(g, np.float64), gradients)
        norm = float(np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(exact))))
        clipped = jax.tree.map(lambda g: g * min(1.0, self.clip_norm / norm), exact)
        if self.count == 0:
            self.first = self.second = jax.tree.map(np.zeros_like, exact)
        self.count += 1
        self.first = _average(self.first, clipped, self.b1)
        self.second = _average(self.second, jax.tree.map(np.square, clipped), self.b2)

        def moved(parameter: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
            parameter = np.asarray(parameter, np.float64)
            mean = first / (1 - self.b1**self.count)
            spread = np.sqrt(second / (1 - self.b2**self.count))
            step = mean / (spread + self.epsilon) + self.weight_decay * parameter
            return np.asarray(parameter - rate * step)

        return jax.tree.map(moved, params, self.first, self.second), norm


def _average(before: Any, now: Any, share: float) -> Any:
    return jax.tree.map(lambda old, new: share * old + (1 - share) * new, before, now)
