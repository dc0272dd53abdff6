"""The example GPT-2 written down once more, as plain formulas in float32."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SITES = {"embedding": 0, "attention": 7, "mlp": 1}  # of the dropouts


def parameters(embed: int, layers: int, mlp: int, vocab: int, positions: int) -> Any:
    """Random ones in every array, biases and the norms' among them."""
    generator = np.random.default_rng(5)

    def drawn(*shape: int, scale: float = 1.0) -> jax.Array:
        return jnp.asarray(scale * generator.standard_normal(shape), jnp.float32)

    def norm() -> dict[str, jax.Array]:
        return {"scale": 1 + drawn(embed, scale=0.2), "bias": drawn(embed, scale=0.2)}

    def dense(width: int, features: int) -> dict[str, jax.Array]:
        return {
            "kernel": drawn(width, features, scale=width**-0.5),
            "bias": drawn(features, scale=0.2),
        }

    def block() -> dict[str, Any]:
        return {
            "ln_1": norm(),
            "attn": {"qkv": dense(embed, 3 * embed), "proj": dense(embed, embed)},
            "ln_2": norm(),
            "mlp": {"fc": dense(embed, mlp), "out": dense(mlp, embed)},
        }

    return {
        "wte": {"embedding": drawn(vocab, embed)},
        "wpe": {"embedding": drawn(positions, embed)},
        **{f"h_{layer}": block() for layer in range(layers)},
        "ln_f": norm(),
    }


def logits(
    params: Any,
    tokens: jax.Array,
    key: jax.Array,
    *,
    heads: int,
    epsilon: float,
    rate: float = 0.0,
    sites: Collection[str] = SITES,
) -> jax.Array:
    """Logits [B, T, V] of tokens [B, T]; `key` is the step's, `sites` are those that drop."""

    def dropped(x: jax.Array, key: jax.Array, site: str) -> jax.Array:
        if site not in sites:
            return x
        key = jax.random.fold_in(key, SITES[site])
        kept = jax.random.bernoulli(key, 1 - rate, (x.shape[0], 1, x.shape[2]))
        return kept.astype(jnp.float32) * x / (1 - rate)

    layers = sum(name.startswith("h_") for name in params)
    outer_key = jax.random.fold_in(key, layers)
    x = params["wte"]["embedding"][tokens]
    x = x + params["wpe"]["embedding"][: tokens.shape[1]][None]
    x = dropped(x, outer_key, "embedding")
    for layer in range(layers):
        own, layer_key = params[f"h_{layer}"], jax.random.fold_in(key, layer)
        normed = _normed(x, own["ln_1"], epsilon)
        x = x + dropped(_attention(own["attn"], normed, heads), layer_key, "attention")
        hidden = _dense(own["mlp"]["fc"], _normed(x, own["ln_2"], epsilon))
        cubic = jnp.sqrt(2 / jnp.pi) * (hidden + 0.044715 * hidden**3)
        hidden = 0.5 * hidden * (1 + jnp.tanh(cubic))
        x = x + dropped(_dense(own["mlp"]["out"], hidden), layer_key, "mlp")
    return _normed(x, params["ln_f"], epsilon) @ params["wte"]["embedding"].T


def _dense(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"][None, None]


def _normed(x: jax.Array, params: Any, epsilon: float) -> jax.Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    scaled = centred / jnp.sqrt(variance + epsilon) * params["scale"][None, None]
    return scaled + params["bias"][None, None]


def _attention(params: Any, x: jax.Array, heads: int) -> jax.Array:
    """Causal attention, a head at a time."""
    query, key, value = jnp.split(_dense(params["qkv"], x), 3, axis=-1)
    T, width = x.shape[1], x.shape[2] // heads
    before = jnp.arange(T)[None, :, None] >= jnp.arange(T)[None, None, :]
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = jnp.einsum("bth,bsh->bts", query[..., own], key[..., own]) / width**0.5
        mixed.append(jax.nn.softmax(jnp.where(before, scores, -jnp.inf)) @ value[..., own])
    return _dense(params["proj"], jnp.concatenate(mixed, axis=-1))
