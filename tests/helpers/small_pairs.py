"""Pairs of small models that differ in one thing each: what a comparison must not miss."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from models.pair import Pair


class Linen(nn.Module):
    """A layer under BatchNorm that sows a value and drops half."""

    momentum: float = 0.9
    rate: float = 0.0
    fixed: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(6)(x)
        x = nn.BatchNorm(use_running_average=False, momentum=self.momentum)(x)
        self.sow("losses", "balance", (x**2).mean())
        key = jax.random.key(0) if self.fixed else self.make_rng("dropout")
        kept = jax.random.bernoulli(key, 1 - self.rate, x.shape)
        return nn.Dense(1)(jnp.where(kept, x, 0))[:, 0]


class Nnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, momentum: float = 0.9, rate: float = 0.0,
                 fixed: bool = False, epsilon: float = 1e-5) -> None:  # fmt: skip
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=momentum, epsilon=epsilon, rngs=rngs)
        self.last = nnx.Linear(6, 1, rngs=rngs)
        self.rngs, self.rate, self.fixed = rngs, rate, fixed

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.first(x))
        self.balance = nnx.Intermediate((x**2).mean())
        key = jax.random.key(0) if self.fixed else self.rngs.dropout()
        kept = jax.random.bernoulli(key, 1 - self.rate, x.shape)
        return self.last(jnp.where(kept, x, 0))[:, 0]


def batch(rng: Any, size: int) -> dict[str, Any]:
    return {"x": rng.standard_normal((size, 4)), "y": rng.standard_normal(size)}


def error(model: Any, batch: Any) -> jax.Array:
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


def of_linen(weight: float = 0.1) -> Callable[..., Any]:
    def loss(model: Any, batch: Any) -> Any:
        found = error(model, batch)
        sown = model.variables.get("losses", {}).get("balance", (0.0,))
        return found + weight * sown[-1], {"error": found}

    return loss


def of_nnx(weight: float = 0.1) -> Callable[..., Any]:
    def loss(model: Any, batch: Any) -> Any:
        found = error(model, batch)
        return found + weight * model.balance[...], {"error": found}

    return loss


def pair(**changed: Any) -> Pair:
    """Two equal models, but for what is changed of the second one, or of the pair."""
    weight = changed.pop("weight", 0.1)
    both = changed.pop("both", {})
    options = ("momentum", "rate", "fixed", "epsilon")
    second = {name: changed.pop(name) for name in options if name in changed}
    return Pair(
        **{
            "linen": Linen(**both),
            "nnx": lambda rngs: Nnx(rngs, **both | second),
            "batch": batch,
            "loss": {"linen": of_linen(), "nnx": of_nnx(weight)},
            **changed,
        }
    )


def module(name: str, made: Any) -> str:
    """A module of this name that has the pair, as `--twins` takes it."""
    found: Any = ModuleType(name)
    found.PAIR = made
    sys.modules[name] = found
    return name
