"""A Linen module as one side: given every random stream that it asks for, called by flax alone."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from models.pairing.linen_side import LinenSide
from models.pairing.sides import Held


class Noisy(nn.Module):
    """Asks for a stream of its own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(1)(x + jax.random.normal(self.make_rng("noise"), x.shape))


class Dropped(nnx.Module):
    """An NNX module that flax's bridge makes a Linen one, which asks in NNX's words."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.line = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.line(self.dropout(x))


class Overriding(nn.Module):
    """Has an init and an apply of its own, that hand on what its call alone takes."""

    def init(self, *arguments: Any, **named: Any) -> Any:
        return nn.Module.init(self, *arguments, mode="train", **named)

    def apply(self, *arguments: Any, **named: Any) -> Any:
        return nn.Module.apply(self, *arguments, mode="train", **named)

    @nn.compact
    def __call__(self, x: jax.Array, mode: str = "") -> jax.Array:
        return nn.Dense(1)(x)


@pytest.mark.parametrize("module", [Noisy(), nnx.bridge.to_linen(Dropped), Overriding()])
def test_a_stream_that_is_asked_for_is_given(module: Any) -> None:
    side = LinenSide(lambda arguments: module, lambda model, batch: model(batch["x"]).sum(), ())
    batch = {"x": jnp.ones((2, 3))}

    def step(key: jax.Array) -> tuple[jax.Array, Held]:
        held = side.init({}, key, batch)
        return side.run({}, held, batch, key).loss, held

    loss, held = jax.eval_shape(step, jax.random.key(0))
    assert loss.shape == ()
    assert sorted(path.rpartition("/")[2] for path in held.params) == ["bias", "kernel"]


def test_a_name_may_hold_what_divides_a_path() -> None:
    module = nn.Sequential([nn.WeightNorm(nn.Dense(2))])
    side = LinenSide(lambda arguments: module, lambda model, batch: model(batch["x"]).sum(), ())
    batch = {"x": jnp.ones((2, 3))}

    def step(key: jax.Array) -> Held:
        return side.run({}, side.init({}, key, batch), batch, key).held

    held = jax.eval_shape(step, jax.random.key(0))
    assert "layers_0/layer_instance/kernel/scale" in held.params
