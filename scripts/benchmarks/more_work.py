"""A pair whose second side takes about 5 % longer for a step, for `verdicts.py` to find.

One matmul in fourteen more: the rest of a step, which both do alike, takes its share of the time.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.pair import Pair

_WIDTH, _LAYERS = 256, 14


class Stack(nnx.Module):
    """Layers one after the other, the first `again` of which are computed twice."""

    def __init__(self, rngs: nnx.Rngs, again: int) -> None:
        self.layers = nnx.List([nnx.Linear(_WIDTH, _WIDTH, rngs=rngs) for _ in range(_LAYERS)])
        self.again = again

    def __call__(self, x: jax.Array) -> jax.Array:  # [B, width]
        """Of the batch's rows: [B, width]."""
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        for layer in [*self.layers][: self.again]:
            x = x + 1e-6 * jnp.tanh(layer(x))
        return x


def _batch(rng: Any, size: int) -> dict[str, Any]:
    return {"x": rng.standard_normal((size, _WIDTH), "float32")}


def _loss(model: Any, batch: Any) -> jax.Array:
    return (model(batch["x"]) ** 2).mean()


PAIR = Pair(
    sides={
        "less": lambda rngs: Stack(rngs, again=0),
        "more": lambda rngs: Stack(rngs, again=1),
    },
    batch=_batch,
    loss=_loss,
)
