"""What the GPT's twins share: norm, attention, dropout and embedding, as Megatron-LM computes them.

Dimensions are those of models/shared/ops.py. Statistics, softmax and GELU are in float32, all else
in the type of what comes in.
"""

from enum import IntEnum

import jax
import jax.numpy as jnp

from models.cut import at, placed, staged
from models.gpt.config import CUT, ModelConfig
from models.seam import Params
from models.shared import grouped, ops, partitioning


class Site(IntEnum):
    """The dropouts; the last part of a random key's derivation."""

    EMBEDDING = 0
    ATTENTION = 1
    AFTER_ATTENTION = 2
    AFTER_MLP = 3


@jax.named_scope("norm")
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """x [B, T, D] about its mean, over its deviation, times scale [D], plus bias [D]."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + epsilon)
    scale32, bias32 = scale.astype(jnp.float32), bias.astype(jnp.float32)
    return (normed * scale32[None, None] + bias32[None, None]).astype(x.dtype)


@jax.named_scope("dropout")
def dropout(x: jax.Array, rate: float, key: jax.Array, site: Site) -> jax.Array:
    """x with features zeroed at `rate`, the others over the rest; `key` is the layer's.

    Each random word decides twice, which halves what it costs to draw them: its low half of the
    first half of the last axis, its high half of the second.
    """
    if rate == 0:
        return x
    *outer, features = x.shape
    words = jax.random.bits(jax.random.fold_in(key, site), (*outer, -(-features // 2)), jnp.uint32)
    halves = tuple(half < round(2**16 * (1 - rate)) for half in (words & 0xFFFF, words >> 16))
    # Behind the barrier decisions go to memory, a byte each, and not the words that they came from.
    keep = jnp.concatenate(jax.lax.optimization_barrier(halves), axis=-1)[..., :features]
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))


def heads(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Queries, keys and values [B, T, N, 3, H] of x [B, T, D], by kernel [D, N, 3, H] and bias.

    The barrier keeps one matrix product of it. XLA for TPU would make a convolution along the
    heads, each of which is narrower than its unit multiplies.
    """
    D, *features = kernel.shape
    flat = jnp.einsum("btd,df->btf", x, kernel.reshape(D, -1)) + bias.reshape(-1)[None, None]
    return grouped.barrier(flat).reshape(*x.shape[:2], *features)


def stream(x: jax.Array) -> jax.Array:
    """The residual stream [B, T, D], its positions divided where the layers' matmuls are."""
    return partitioning.constrain_evenly(x, ("batch", "stream_position", "activation_embed"))


@jax.named_scope("gelu")
def gelu(x: jax.Array) -> jax.Array:
    """GELU in its tanh form; in float16 its derivative would be NaN where x^2 overflows."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


@jax.named_scope("attention")
def attention(qkv: jax.Array, config: ModelConfig, key: jax.Array) -> jax.Array:
    """Causal attention [B, T, N, H] of fused queries, keys and values [B, T, N, 3, H].

    `key` is the layer's.
    """
    axes = ("batch", "position", "heads", "kv")
    query, keys, value = (
        partitioning.constrain(qkv[:, :, :, part], axes) for part in range(3)
    )  # [B, T, N, H]
    T, scale = query.shape[1], config.head_dim**-0.5
    if config.attention == "splash":
        query = query * jnp.asarray(scale, query.dtype)
        return partitioning.map_over_batch(ops.splash_attention, query, keys, value, axes=axes)
    if config.attention == "cudnn":  # whose own scale is the same
        return jax.nn.dot_product_attention(
            query, keys, value, is_causal=True, implementation="cudnn"
        )
    scores = jnp.einsum("btnh,bsnh->bnts", query, keys, preferred_element_type=jnp.float32)
    causal = jnp.tril(jnp.ones((1, 1, T, T), bool))
    masked = jnp.where(causal, scores * scale, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(masked, axis=-1).astype(value.dtype)  # [B, N, T, T]
    kept = dropout(probabilities, config.attention_dropout, key, Site.ATTENTION)
    return partitioning.constrain(jnp.einsum("bnts,bsnh->btnh", kept, value), axes)


def embed(
    config: ModelConfig, words: jax.Array, places: jax.Array, tokens: jax.Array, key: jax.Array
) -> jax.Array:
    """The residual stream [B, T, D] of tokens [B, T] by the tables of words and of places.

    `key` is that of what lies outside the layers.
    """
    x = grouped.lookup(words, tokens) + places[None, : tokens.shape[1]]
    return dropout(stream(x), config.hidden_dropout, key, Site.EMBEDDING)


def tables(params: Params) -> tuple[jax.Array, jax.Array]:
    """Those of words [V, D] and of places [T, D]."""
    return params["token_embedder"]["embedding"], params["position_embedder"]["embedding"]


def fresh(params: Params, config: ModelConfig) -> Params:
    """Parameters as a state holds them, of layers stacked [L, ...]: all in one stage.

    In float32 they begin as what the first step will make of them.
    """
    stack = jax.tree.map(lambda array: array[:, None], at(params, CUT.layers))
    return ops.cast(ops.cast(placed(params, CUT.layers, stack), config.dtype), "float32")


def in_order(params: Params, config: ModelConfig) -> Params:
    """Parameters in the model's type, their layers stacked [L, ...] from whatever split."""
    stack = jax.tree.map(lambda array: array[:, 0], at(staged(params, CUT, 1), CUT.layers))
    return ops.cast(placed(params, CUT.layers, stack), config.dtype)
