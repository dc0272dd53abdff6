"""The shared functions against plain float64 formulas."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.shared import ops
from models.shared.settings import attention_for

T, N, H = 128, 2, 128


def rotated(x: np.ndarray) -> np.ndarray:
    """RoPE from its definition: each pair (i, i + H/2) turned as one complex number."""
    half = x.shape[-1] // 2
    positions = np.arange(x.shape[1])[:, None]
    turn = np.exp(1j * positions / 10_000.0 ** (np.arange(half) / half))[:, None, :]
    pairs = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def exact_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    repeats = query.shape[2] // key.shape[2]
    key, value = np.repeat(key, repeats, axis=2), np.repeat(value, repeats, axis=2)
    scores = np.einsum("btnh,bsnh->bnts", query, key)
    scores = np.where(np.tri(query.shape[1], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnts,bsnh->btnh", weights / weights.sum(-1, keepdims=True), value)


def inputs(kv_heads: int = N) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = [(2, T, N, H), (2, T, kv_heads, H), (2, T, kv_heads, H)]
    return [generator.standard_normal(shape) / H**0.25 for shape in shapes]


def test_rope() -> None:
    x = inputs()[0]
    assert np.allclose(ops.rope(jnp.asarray(x, jnp.float32), 10_000), rotated(x), atol=2e-5)


def test_rms_norm() -> None:
    x, scale = np.random.default_rng(0).standard_normal((2, 2, 3, 8))[0], np.arange(8.0)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale
    actual = ops.rms_norm(jnp.asarray(x, jnp.float32), jnp.asarray(scale, jnp.float32), 1e-5)
    assert np.allclose(actual, expected, atol=1e-5)


def test_rms_norm_rounds_before_it_scales() -> None:
    x = jnp.asarray([[[1.0, 2.0, 3.0]]], jnp.bfloat16)
    scale = jnp.asarray([1.0, 1.1, 1.3])
    normed = ops.rms_norm(x, jnp.ones(3), 1e-5)
    assert normed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ops.rms_norm(x, scale, 1e-5), normed * scale.astype(jnp.bfloat16))


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_xla_attention(kv_heads: int) -> None:
    exact = inputs(kv_heads)
    query, key, value = (jnp.asarray(x, jnp.float32) for x in exact)
    assert np.allclose(ops.attention(query, key, value, "xla"), exact_attention(*exact), atol=1e-5)


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_splash_attention_agrees_with_xla_and_so_do_its_gradients(kv_heads: int) -> None:
    """The Pallas kernel, interpreted."""
    query, key, value = (jnp.asarray(x, jnp.float32) for x in inputs(kv_heads))

    def total(attend: Callable[..., jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def summed(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(attend(query, key, value)))

        return jax.jit(jax.value_and_grad(summed, argnums=(0, 1, 2)))(query, key, value)

    splash = total(partial(ops.splash_attention, interpret=True))
    xla = total(partial(ops.attention, implementation="xla"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3), splash, xla)


@pytest.mark.parametrize(
    ("platform", "sequence_length", "head_dim", "expected"),
    [
        ("tpu", 2048, 128, "splash"),
        ("tpu", 128, 128, "splash"),
        ("tpu", 64, 16, "xla"),
        ("gpu", 2048, 128, "cudnn"),
        ("gpu", 64, 16, "xla"),
        ("cpu", 2048, 128, "xla"),
    ],
)
def test_auto_attention(platform: str, sequence_length: int, head_dim: int, expected: str) -> None:
    assert attention_for(platform, sequence_length, head_dim) == expected
