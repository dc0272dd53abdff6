"""An NNX module as one side: made for the mesh that it runs under."""

import jax
import jax.numpy as jnp
from flax import nnx

from models.pairing.nnx_side import NnxSide


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
