"""The bridged decoder: the same tree and numbers as the decoder that it wraps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.cases import families, reading
from harness.training import checking
from models.decoder.config import ModelConfig

BRIDGE = "models.examples.bridge"
SMALL = ModelConfig(
    embed=8,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=4,
    mlp=12,
    vocab=16,
    dropout_rate=0.1,
    dtype="float32",
    attention="xla",
)


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_the_seam_has_no_fault(size: str) -> None:
    assert checking.faults(reading.load("03_dropout", size, twins=BRIDGE)) == []


def test_its_logits_are_the_decoders_and_its_parameters_are_its_own() -> None:
    family, key = families.load(BRIDGE), jax.random.key(2)
    linen, bridge = (family.get(name) for name in family.names)
    params = jax.jit(lambda: bridge.init(SMALL, jax.random.key(0)))()
    tokens = jax.random.randint(jax.random.key(1), (2, 5), 0, SMALL.vocab)
    a, b = (
        jax.jit(lambda params, one=one: one.apply(SMALL, params, tokens, key))(params)
        for one in (linen, bridge)
    )
    np.testing.assert_array_equal(a, b)
    assert jnp.isfinite(a).all()
    shapes = [jax.eval_shape(lambda one=one: one.init(SMALL, key)) for one in (linen, bridge)]
    assert shapes[0] == shapes[1]
    assert linen.logical_axes(SMALL) == bridge.logical_axes(SMALL)
