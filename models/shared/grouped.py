"""Grouped-query attention in its inputs' own precision, and what stands around it.

Everything is computed in the dtype of the activations, as AXLearn does, where `ops` goes through
float32: norms, rotations of neighbours, scores. Dimensions are those of `ops`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from models.shared import ops, partitioning

CONTEXT = "context"  # the name of attention's result for a remat policy
_FORBIDDEN = -1e15  # what is added to a score that must not count


@jax.named_scope("norm")
def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """x over its root mean square, times scale; all of it in x's dtype."""
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + epsilon) * jax.lax.broadcast_to_rank(scale, x.ndim)


@jax.named_scope("rope")
def rotate_neighbours(x: jax.Array, timescale: float) -> jax.Array:
    """Rotates the pairs (2i, 2i+1) of x [B, T, N, H] by position, at 1 to `timescale`.

    Angles in float32, the rotation in x's dtype. Positions count from 0, whatever is packed.
    """
    T, H = x.shape[1], x.shape[3]
    wavelengths = timescale ** (jnp.arange(H // 2, dtype=jnp.float32) * 2 / H)
    angles = jnp.arange(T, dtype=jnp.float32)[:, None] / wavelengths[None]  # [T, H/2]
    sine, cosine = (f(angles).astype(x.dtype)[None, :, None] for f in (jnp.sin, jnp.cos))
    even, odd = x[..., 0::2], x[..., 1::2]  # [B, T, N, H/2]
    rotated = jnp.stack([even * cosine - odd * sine, odd * cosine + even * sine], axis=-1)
    return rotated.reshape(x.shape)


@jax.custom_jvp
def barrier(x: jax.Array) -> jax.Array:
    """x, which the compiler computes as it stands here; no gradient meets a barrier."""
    return jax.lax.optimization_barrier(x)


@barrier.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return barrier(*primals), tangents[0]


@jax.named_scope("attention")
def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array | None,
    implementation: str,
) -> jax.Array:
    """Causal attention without a scale: query [B, T, N, H], key and value [B, T, K, H].

    Query head n reads key head n // (N/K). With segments [B, T] a position meets those of its own
    alone.
    """
    if implementation == "splash":
        tensors = (query, key, value) + (() if segments is None else (segments,))
        kernel = partial(ops.splash_attention, saved_as=CONTEXT)
        return partitioning.map_over_batch(kernel, *tensors)
    if implementation == "cudnn":
        mask = None if segments is None else _same(segments)
        return jax.nn.dot_product_attention(
            query, key, value, mask=mask, scale=1.0, is_causal=True, implementation="cudnn"
        )
    tensors = (query, key, value) + (() if segments is None else (segments,))
    return partitioning.map_over_sequences(_plain, *tensors)


def _plain(
    query: jax.Array, key: jax.Array, value: jax.Array, segments: jax.Array | None = None
) -> jax.Array:
    """`attention` whose scores are written out."""
    B, T, N, H = query.shape
    grouped = query.reshape(B, T, key.shape[2], -1, H)
    scores = jnp.einsum("btkgh,bskh->bkgts", grouped, key)  # [B, K, N/K, T, T]
    causal = jnp.tril(jnp.ones((1, 1, 1, T, T), bool))
    scores = scores + _bias(causal, scores.dtype)
    if segments is not None:
        scores = scores + _bias(_same(segments)[:, :, None], scores.dtype)
    probabilities = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(scores.dtype)
    context = jnp.einsum("bkgts,bskh->btkgh", probabilities, value)
    return context.reshape(B, T, N, H)


@jax.named_scope("lookup")
def lookup(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """The rows of table [V, D] at tokens [B, T]."""
    return table[tokens]


@jax.named_scope("logits")
def logits(x: jax.Array, table: jax.Array) -> jax.Array:
    """The products of x [B, T, D] with each row of table [V, D], in x's dtype."""
    return jnp.einsum("btd,vd->btv", x, table)


def _same(segments: jax.Array) -> jax.Array:
    """Which positions lie in one segment, [B, 1, T, T]."""
    return (segments[:, :, None] == segments[:, None, :])[:, None]


def _bias(allowed: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jnp.where(allowed, 0, _FORBIDDEN).astype(dtype)
