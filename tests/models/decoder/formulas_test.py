"""The decoder's numbers against plain formulas: logits, gradients, and dropout at each site."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_decoder
import plain_training
import pytest

from harness.cases import families
from models.decoder.config import ModelConfig
from models.decoder.sites import Site
from models.seam import USUAL_NAMES
from models.shared import ops

SHAPES: dict[str, Any] = {
    "embed": 8,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 6,
    "mlp": 12,
    "vocab": 16,
}
SMALL = replace(
    ModelConfig(**SHAPES), dtype="float32", attention="xla", norm_epsilon=1e-2, rope_timescale=50.0
)
PARAMS = plain_decoder.parameters(**SHAPES)
KEY = jax.random.key(3)
TOKENS = jnp.asarray(np.random.default_rng(4).integers(0, 16, (2, 7)), jnp.int32)
TARGETS = jnp.roll(TOKENS, -1, axis=1)
VARIANTS = {
    "plain": SMALL,
    "dropout": replace(SMALL, dropout_rate=0.3),
    "gathered weights kept": replace(SMALL, remat="weights"),
    "nothing recomputed, unrolled": replace(SMALL, remat="none", unroll=True),
}


def applied(impl: str, config: ModelConfig, params: Any = PARAMS) -> jax.Array:
    apply = families.load(None).get(impl).apply
    return jax.jit(lambda params: apply(config, params, TOKENS, KEY))(params)


@cache
def expected(rate: float) -> Any:
    """Logits and the gradients of the loss."""

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        logits = plain_decoder.logits(
            params, TOKENS, KEY, rate=rate, epsilon=SMALL.norm_epsilon, timescale=50.0
        )
        return plain_training.loss(logits, TARGETS), logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(PARAMS)
    return logits, gradients


@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_logits_and_gradients_are_those_of_the_formulas(impl: str, config: ModelConfig) -> None:
    apply = families.load(None).get(impl).apply

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        logits = apply(config, params, TOKENS, KEY)
        return plain_training.loss(logits, TARGETS), logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(PARAMS)
    wanted, wanted_gradients = expected(config.dropout_rate)
    np.testing.assert_allclose(logits, wanted, rtol=2e-5, atol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradients,
        wanted_gradients,
    )


@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize("site", plain_decoder.SITES)
def test_dropout_acts_at_each_site_alone(
    impl: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_site, one = ops.dropout, plain_decoder.SITES[site]

    def at_one_site(x: jax.Array, rate: float, key: jax.Array, here: Site) -> jax.Array:
        return every_site(x, rate, key, here) if here == one else x

    monkeypatch.setattr(ops, "dropout", at_one_site)
    wanted = plain_decoder.logits(
        PARAMS, TOKENS, KEY, rate=0.3, sites={site}, epsilon=SMALL.norm_epsilon, timescale=50.0
    )
    found = applied(impl, replace(SMALL, dropout_rate=0.3))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    assert not np.allclose(found, expected(0.0)[0], atol=1e-2)


@pytest.mark.parametrize("impl", USUAL_NAMES)
def test_bfloat16_is_used_where_it_is_said_and_nowhere_else(impl: str) -> None:
    """Matmuls and the residual stream; sums of squares and logits as they leave in float32."""
    config = replace(SMALL, dtype="bfloat16", dropout_rate=0.3)
    apply = families.load(None).get(impl).apply
    lowered = jax.jit(lambda params: apply(config, params, TOKENS, KEY)).lower(PARAMS)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert products
    assert all("xf32>, tensor" not in line for line in products), products
    found = lowered.compile()(PARAMS)
    assert found.dtype == jnp.float32
    assert_close_in_bfloat16(found, expected(0.3)[0])
    assert (found == found.astype(jnp.bfloat16).astype(jnp.float32)).all()


def assert_close_in_bfloat16(found: jax.Array, wanted: jax.Array) -> None:
    error = np.abs(np.asarray(found) - np.asarray(wanted))
    assert error.max() < 0.1 * np.abs(wanted).max()
    assert error.mean() < 0.01 * np.abs(wanted).max()
