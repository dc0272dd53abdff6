"""The pure functions that both twins share.

Single capitals are dimensions, everywhere in the project:
B batch, T position, D embed, N heads, K kv heads, H head width, F mlp width, V vocab, L layers.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, normal, variance_scaling

from models.seam import Params
from models.shared import partitioning

STREAM_AXES = ("batch", "position", "activation_embed")  # the residual stream [B, T, D]

embedding_initializer = normal(1.0)
fan_in_normal = variance_scaling(1.0, "fan_in", "normal")
fan_out_normal = variance_scaling(1.0, "fan_out", "normal")
# Of fused queries, keys and values [D, heads, H], and of an output matrix [D, N, H].
qkv_initializer = variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2))
out_initializer = variance_scaling(1.0, "fan_in", "normal", in_axis=(1, 2), out_axis=0)
fan_in_truncated_normal = variance_scaling(1.0, "fan_in", "truncated_normal")


def query_initializer(head_dim: int) -> Initializer:
    """Fan-in normal over sqrt(H) in bfloat16, so that attention needs no scale at run time."""
    scale = np.asarray(np.sqrt(head_dim), jnp.bfloat16).astype(np.float32)

    def initializer(
        key: jax.Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        return fan_in_normal(key, shape, dtype, out_sharding) / scale.astype(dtype)

    return initializer


def cast(params: Params, dtype: str) -> Params:
    """All parameters in one dtype; their gradients come back in their own."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def layer_keys(key: jax.Array, layers: int) -> tuple[jax.Array, jax.Array]:
    """One key per layer [L], and one for the sites outside the layers, from a step's key."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(layers + 1, dtype=jnp.uint32))
    return keys[:-1], keys[-1]


@jax.named_scope("dropout")
def dropout(x: jax.Array, rate: float, key: jax.Array, site: int) -> jax.Array:
    """Zeroes features of x [B, T, features] at `rate`, the same ones at every position."""
    if rate == 0:
        return x
    shape = (x.shape[0], 1, x.shape[2])  # shared along T
    keep = jax.random.bernoulli(jax.random.fold_in(key, site), 1 - rate, shape)
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))


@jax.named_scope("norm")
def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """x over its root mean square, times scale [D]; statistics in float32, result as x."""
    x32 = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    normed = (x32 * jax.lax.rsqrt(mean_square + epsilon)).astype(x.dtype)
    return normed * jax.lax.broadcast_to_rank(scale.astype(x.dtype), x.ndim)


@jax.named_scope("rope")
def rope(x: jax.Array, timescale: float) -> jax.Array:
    """Rotates the halves of x [B, T, N, H] by position, at wavelengths 1 to `timescale`."""
    T, H = x.shape[1], x.shape[3]
    frequencies = timescale ** -(jnp.arange(H // 2, dtype=jnp.float32) * 2 / H)
    angles = jnp.arange(T, dtype=jnp.float32)[:, None] * frequencies[None]  # [T, H/2]
    sine = jnp.sin(angles).astype(x.dtype)[:, None, :]  # [T, 1, H/2]
    cosine = jnp.cos(angles).astype(x.dtype)[:, None, :]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [
            first * cosine[None] - second * sine[None],
            second * cosine[None] + first * sine[None],
        ],
        axis=-1,
    )


@jax.named_scope("attention")
def attention(query: jax.Array, key: jax.Array, value: jax.Array, implementation: str) -> jax.Array:
    """Causal attention without a scale: query [B, T, N, H], key and value [B, T, K, H]."""
    if implementation == "splash":
        return partitioning.map_over_batch(splash_attention, query, key, value)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        scale=1.0,
        is_causal=True,
        implementation="cudnn" if implementation == "cudnn" else "xla",
    )


def splash_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: jax.Array | None = None,
    interpret: bool = False,
    saved_as: str | None = None,
) -> jax.Array:
    """`attention` by JAX's Pallas kernel for TPU; `interpret` runs it anywhere, slowly.

    With segments [B, T] a position meets those of its own alone. saved_as: the name by which a
    remat policy keeps what the backward pass needs.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    T, N = query.shape[1], query.shape[2]
    block = min(512, T)
    kernel = splash.make_splash_mha(
        mask=splash.MultiHeadMask([splash.CausalMask((T, T))] * N),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
        residual_checkpoint_name=saved_as,
    )
    heads_first = [x.swapaxes(1, 2) for x in (query, key, value)]  # [B, N, T, H]
    ids = None if segments is None else splash.SegmentIds(segments, segments)
    return jax.vmap(kernel)(*heads_first, ids).swapaxes(1, 2)
