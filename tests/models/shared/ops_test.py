"""The shared functions against plain float64 formulas."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.shared import ops

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


def inputs(kv_heads: int = N, width: int = H) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = [(2, T, N, width), (2, T, kv_heads, width), (2, T, kv_heads, width)]
    return [generator.standard_normal(shape) / width**0.25 for shape in shapes]


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
    expected = normed * scale.astype(jnp.bfloat16)[None, None]
    np.testing.assert_array_equal(ops.rms_norm(x, scale, 1e-5), expected)


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_xla_attention(kv_heads: int) -> None:
    exact = inputs(kv_heads)
    query, key, value = (jnp.asarray(x, jnp.float32) for x in exact)
    assert np.allclose(ops.attention(query, key, value, "xla"), exact_attention(*exact), atol=1e-5)


@pytest.mark.parametrize(("kv_heads", "width"), [(2, H), (1, H), (2, 64)])
def test_splash_attention_agrees_with_xla_and_so_do_its_gradients(
    kv_heads: int, width: int
) -> None:
    """The Pallas kernel, interpreted."""
    query, key, value = (jnp.asarray(x, jnp.float32) for x in inputs(kv_heads, width))

    def total(attend: Callable[..., jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def summed(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(attend(query, key, value)))

        return jax.jit(jax.value_and_grad(summed, argnums=(0, 1, 2)))(query, key, value)

    splash = total(partial(ops.splash_attention, interpret=True))
    xla = total(partial(ops.attention, implementation="xla"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3), splash, xla)


def test_a_remat_policy_keeps_what_the_kernel_leaves_by_the_name_it_is_given() -> None:
    x = jnp.ones((1, T, 1, H))
    kernel = partial(ops.splash_attention, interpret=True, saved_as="kept")
    assert "name[name=kept]" in str(jax.make_jaxpr(jax.grad(lambda x: kernel(x, x, x).sum()))(x))


LAYERS, RATE = 2, 0.1


@cache
def masks(step: int) -> dict[tuple[int, int], np.ndarray]:
    """What two sites of each layer, and two outside, make of ones: 4096 features, two sequences."""
    layer_keys, outer_key = ops.layer_keys(jax.random.fold_in(jax.random.key(0), step), LAYERS)
    ones = jnp.ones((2, 3, 4096))
    keys = [*layer_keys, outer_key]
    return {
        (place, site): np.asarray(ops.dropout(ones, RATE, keys[place], site))
        for place in range(LAYERS + 1)
        for site in ((0, 3) if place == LAYERS else (1, 2))
    }


def test_masks_differ_between_steps_layers_sites_and_sequences() -> None:
    drawn = [
        values[sequence, 0]
        for step in range(3)
        for values in masks(step).values()
        for sequence in range(2)
    ]
    assert len({mask.tobytes() for mask in drawn}) == len(drawn)
    agreement = np.mean([np.mean((a > 0) == (b > 0)) for a, b in pairwise(drawn)])
    assert agreement == pytest.approx(0.9**2 + 0.1**2, abs=0.01)  # independent draws


def test_dropout_is_shared_along_positions_and_keeps_the_mean() -> None:
    for values in masks(0).values():
        assert (values == values[:, :1]).all()
        assert set(np.unique(values)) == {0, np.float32(1) / np.float32(0.9)}
        assert values.mean() == pytest.approx(1, abs=0.02)


def test_without_a_rate_nothing_is_drawn() -> None:
    x = jnp.ones((1, 2, 3))
    assert ops.dropout(x, 0.0, jax.random.key(0), 0) is x


def test_dropout_keeps_the_dtype() -> None:
    x = jnp.full((1, 2, 64), 3.0, jnp.bfloat16)
    dropped = ops.dropout(x, 0.5, jax.random.key(0), 0)
    assert dropped.dtype == jnp.bfloat16
    assert set(np.unique(dropped)) == {0, 6}


def test_the_keys_of_layers_are_the_steps_folded_with_their_numbers() -> None:
    key = jax.random.key(7)
    layers, outer = ops.layer_keys(key, 3)
    folded = [jax.random.key_data(jax.random.fold_in(key, number)) for number in range(4)]
    np.testing.assert_array_equal(jax.random.key_data(layers), np.stack(folded[:3]))
    np.testing.assert_array_equal(jax.random.key_data(outer), folded[3])


def test_the_query_starts_smaller_by_the_root_of_the_head_in_bfloat16() -> None:
    key, shape = jax.random.key(1), (32, 2, 128)
    query = ops.query_initializer(128)(key, shape, jnp.float32)
    assert query.dtype == jnp.float32
    plain = ops.fan_in_normal(key, shape, jnp.float32)
    np.testing.assert_allclose(query, np.asarray(plain) / 11.3125, rtol=1e-6)


@pytest.mark.parametrize("name", ["dropout", "norm", "rope", "attention"])
def test_each_operation_tells_its_part_of_the_model(name: str) -> None:
    """By the name in the path of the compiled operations, where pages and tables find it."""
    x, key = jnp.ones((1, 4, 2, 4)), jax.random.key(0)
    operations: dict[str, Callable[[], jax.Array]] = {
        "dropout": lambda: ops.dropout(x[:, :, 0], 0.5, key, 0),
        "norm": lambda: ops.rms_norm(x[:, :, 0], jnp.ones(4), 1e-5),
        "rope": lambda: ops.rope(x, 100.0),
        "attention": lambda: ops.attention(x, x, x, "xla"),
    }
    text = jax.jit(operations[name]).lower().as_text(debug_info=True)
    assert f"/{name}/" in text


def test_each_implementation_of_attention_is_asked_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def dot_product_attention(*operands: jax.Array, **options: object) -> jax.Array:
        asked.append(options)
        return operands[0]

    monkeypatch.setattr(jax.nn, "dot_product_attention", dot_product_attention)
    monkeypatch.setattr(ops, "splash_attention", lambda query, key, value: asked.append("splash"))
    x = jnp.ones((1, 2, 1, 2))
    for implementation in ("xla", "cudnn", "splash"):
        ops.attention(x, x, x, implementation)
    assert asked == [
        {"scale": 1.0, "is_causal": True, "implementation": "xla"},
        {"scale": 1.0, "is_causal": True, "implementation": "cudnn"},
        "splash",
    ]
