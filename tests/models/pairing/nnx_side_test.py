"""An NNX module as one side: made for the mesh that it runs under."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from models.pairing.nnx_side import NnxSide
from models.pairing.probing import Probe


class Divided(nnx.Module):
    """Knows over how many devices it was made."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(()))
        self.devices = jax.sharding.get_abstract_mesh().size


def test_a_model_is_made_again_for_another_mesh() -> None:
    side = NnxSide(
        lambda arguments, rngs: Divided(rngs), lambda model, batch: model.scale[...] * model.devices
    )
    key = jax.random.key(0)
    for devices in (1, 2):
        with jax.set_mesh(jax.make_mesh((devices,), ("fsdp",))):
            held = side.init({}, key, {})
            assert side.run({}, held, {}, key).loss == devices


class Changing(nnx.Module):
    """Bounds its own parameter and counts its calls in Python, or neither."""

    def __init__(self, bound: float | None) -> None:
        self.scale, self.rate = nnx.Param(jnp.ones(3)), nnx.Param(jnp.ones(()))
        self.bound, self.calls = bound, 0

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.bound is not None:
            self.scale[...] = jnp.clip(self.scale[...], -self.bound, self.bound)
            self.calls += 1
        return (self.scale[...] * x).sum() * nnx.remat(lambda rate: rate[...])(self.rate)


@pytest.mark.parametrize("bound", [None, 2.0])
def test_what_a_model_changes_itself_and_no_step_carries_on_is_known(bound: Any) -> None:
    side = NnxSide(lambda arguments, rngs: Changing(bound), lambda model, batch: model(batch["x"]))
    probe = Probe(side, {}, [{"x": jnp.ones(3)}])
    changed = (set(), set()) if bound is None else ({"scale"}, {"calls"})
    assert (probe.written, probe.altered) == changed
