"""A regression on noisy inputs: a random stream of its own in Linen, and in NNX."""

from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from models.pair import Pair

_NOISE = 0.1


class Regression(nn.Module):
    """As it was written in Linen."""

    hidden: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + _NOISE * jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(1)(nn.tanh(nn.Dense(self.hidden)(x)))[:, 0]


class Fit(nnx.Module):
    """As it was migrated to NNX."""

    def __init__(self, rngs: nnx.Rngs, hidden: int = 64) -> None:
        self.wide = nnx.Linear(8, hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, 1, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + _NOISE * jax.random.normal(self.rngs.noise(), x.shape)
        return self.narrow(nnx.tanh(self.wide(x)))[:, 0]


def _batch(rng: Any, size: int) -> dict[str, Any]:
    x = rng.standard_normal((size, 8))
    return {"x": x, "y": x.sum(axis=1)}


PAIR = Pair(
    linen=Regression(),
    nnx=Fit,
    batch=_batch,
    loss=lambda model, batch: ((model(batch["x"]) - batch["y"]) ** 2).mean(),
    sizes={"full": {"hidden": 64}, "tiny": {"hidden": 8}, "awkward": {"hidden": 7}},
)
