"""An optimizer in one file: steps of one size against the gradient's sign, a rate that is held."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from harness.optimizers.optimizer import LearningRate, Optimizer


@dataclass(frozen=True)
class Settings:
    """What a case may set."""

    learning_rate: float = 1e-3


class Held(NamedTuple):
    """One rate for all steps."""

    rate: Any

    def __call__(self, step: jax.Array) -> jax.Array:
        return jnp.float32(self.rate)


def schedule(settings: Settings, steps: int) -> Held:
    """The learning rates of a run."""
    return Held(np.float32(settings.learning_rate))


def make(settings: Settings, learning_rate: LearningRate) -> Optimizer:
    """Holds no state at all."""

    def update(gradients: Any, state: Mapping[str, Any], params: Any) -> Any:
        rate = learning_rate(state["step"])
        squares = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(gradients)]
        after = jax.tree.map(lambda p, g: p - rate * jnp.sign(g), params, gradients)
        return after, {}, {"grad_norm": jnp.sqrt(sum(squares)), "learning_rate": rate}

    return Optimizer(lambda params: {}, update)
