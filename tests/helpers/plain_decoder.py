"""The decoder written down once more, as plain formulas: what the twins' numbers are judged by.

In float32, with a loop over the layers; nothing in it comes from models/ or from flax. A random key
is folded with the layer, or with the number of layers outside of them, and then with the site.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SITES = {"embedding": 0, "mlp": 1, "layer": 2, "head": 3}  # of the dropouts


def parameters(
    embed: int, layers: int, heads: int, kv_heads: int, head_dim: int, mlp: int, vocab: int
) -> Any:
    """Random ones in every array, the scales of the norms among them."""
    generator = np.random.default_rng(5)

    def drawn(*shape: int, fan_in: int) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape) / fan_in**0.5, jnp.float32)

    def norm(*shape: int) -> dict[str, jax.Array]:
        return {"scale": jnp.asarray(generator.uniform(0.5, 1.5, shape), jnp.float32)}

    def kernel(*shape: int, fan_in: int = embed) -> dict[str, jax.Array]:
        return {"kernel": drawn(*shape, fan_in=fan_in)}

    return {
        "token_embedder": {"embedding": drawn(vocab, embed, fan_in=1)},
        "decoder": {
            "layers": {
                "pre_self_attention_layer_norm": norm(embed, layers),
                "self_attention": {
                    "query": kernel(embed, layers, heads, head_dim),
                    "key": kernel(embed, layers, kv_heads, head_dim),
                    "value": kernel(embed, layers, kv_heads, head_dim),
                    "out": kernel(heads, layers, head_dim, embed, fan_in=heads * head_dim),
                },
                "post_self_attention_layer_norm": norm(embed, layers),
                "mlp": {
                    "wi_0": kernel(embed, layers, mlp),
                    "wi_1": kernel(embed, layers, mlp),
                    "wo": kernel(mlp, layers, embed, fan_in=mlp),
                },
            },
            "decoder_norm": norm(embed),
            "logits_dense": kernel(embed, vocab),
        },
    }


def logits(
    params: Any,
    tokens: jax.Array,
    key: jax.Array,
    *,
    rate: float = 0.0,
    sites: Collection[str] = SITES,
    epsilon: float = 1e-5,
    timescale: float = 10_000.0,
) -> jax.Array:
    """Logits [B, T, V] of tokens [B, T]; `key` is the step's, `sites` are those that drop."""

    def dropped(x: jax.Array, key: jax.Array, site: str) -> jax.Array:
        if site not in sites:
            return x
        alike_at_all_positions = (x.shape[0], 1, x.shape[2])
        key = jax.random.fold_in(key, SITES[site])
        kept = jax.random.bernoulli(key, 1 - rate, alike_at_all_positions)
        return kept.astype(jnp.float32) * x / (1 - rate)

    layers = params["decoder"]["layers"]
    count = layers["mlp"]["wo"]["kernel"].shape[1]
    outer_key = jax.random.fold_in(key, count)
    x = params["token_embedder"]["embedding"][tokens]
    x = dropped(x, outer_key, "embedding")
    for layer in range(count):
        own = jax.tree.map(lambda array, layer=layer: array[:, layer], layers)
        layer_key = jax.random.fold_in(key, layer)
        normed = _normed(x, own["pre_self_attention_layer_norm"]["scale"], epsilon)
        x = x + _attention(own["self_attention"], normed, timescale)
        normed = _normed(x, own["post_self_attention_layer_norm"]["scale"], epsilon)
        gate = normed @ own["mlp"]["wi_0"]["kernel"]
        hidden = gate / (1 + jnp.exp(-gate)) * (normed @ own["mlp"]["wi_1"]["kernel"])
        x = x + dropped(hidden, layer_key, "mlp") @ own["mlp"]["wo"]["kernel"]
        x = dropped(x, layer_key, "layer")
    x = _normed(x, params["decoder"]["decoder_norm"]["scale"], epsilon)
    return dropped(x, outer_key, "head") @ params["decoder"]["logits_dense"]["kernel"]


def _normed(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(square + epsilon) * scale[None, None]


def _attention(kernels: Any, x: jax.Array, timescale: float) -> jax.Array:
    """Causal attention of x [B, T, D], a head of the kernel at a time."""
    query_kernel, out_kernel = kernels["query"]["kernel"], kernels["out"]["kernel"]
    heads, kv_heads = query_kernel.shape[1], kernels["key"]["kernel"].shape[1]
    T = x.shape[1]
    mixed = jnp.zeros_like(x)
    for head in range(heads):
        shared = head // (heads // kv_heads)
        query = _rotated(x @ query_kernel[:, head], timescale)
        key = _rotated(x @ kernels["key"]["kernel"][:, shared], timescale)
        value = x @ kernels["value"]["kernel"][:, shared]
        scores = jnp.einsum("bth,bsh->bts", query, key)
        before = jnp.arange(T)[None, :, None] >= jnp.arange(T)[None, None, :]
        weights = jax.nn.softmax(jnp.where(before, scores, -jnp.inf), axis=-1)
        mixed = mixed + weights @ value @ out_kernel[head]
    return mixed


def _rotated(x: jax.Array, timescale: float) -> jax.Array:
    """Each pair (i, i + H/2) of x [B, T, H] turned by its angle at each position."""
    half = x.shape[-1] // 2
    pace = np.array([timescale ** (-i / half) for i in range(half)], np.float32)
    angle = np.arange(x.shape[1], dtype=np.float32)[None, :, None] * pace[None, None]
    first, second = x[..., :half], x[..., half:]
    cosine, sine = np.cos(angle), np.sin(angle)
    return jnp.concatenate(
        [first * cosine - second * sine, first * sine + second * cosine], axis=-1
    )
