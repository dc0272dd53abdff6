"""The bridged decoder: the same tree and numbers as the decoder that it wraps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.cases import families, reading
from harness.training import checking
from models.decoder.config import SIZES, ModelConfig

BRIDGE = "models.examples.bridge"
TINY = replace(ModelConfig(**SIZES["tiny"]), dtype="float32", dropout_rate=0.1, attention="xla")


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_the_seam_has_no_fault(size: str) -> None:
    assert checking.faults(reading.load("03_dropout", size, twins=BRIDGE)) == []


def test_its_logits_are_the_decoders_and_its_parameters_are_its_own() -> None:
    family, key = families.load(BRIDGE), jax.random.key(2)
    linen, bridge = (family.get(name) for name in family.names)
    params = jax.jit(lambda: bridge.init(TINY, jax.random.key(0)))()
    tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, TINY.vocab)
    a, b = (
        jax.jit(lambda params, one=one: one.apply(TINY, params, tokens, key))(params)
        for one in (linen, bridge)
    )
    np.testing.assert_array_equal(a, b)
    assert jnp.isfinite(a).all()
    shapes = [jax.eval_shape(lambda one=one: one.init(TINY, key)) for one in (linen, bridge)]
    assert shapes[0] == shapes[1]
    assert linen.logical_axes(TINY) == bridge.logical_axes(TINY)
