"""A small decoder whose sequences are padded, and its migration: other names, another layout.

The Linen one has three projections for query, key and value with the heads apart, the NNX one a
single matrix for all; what belongs to what is found.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from models.pair import Pair

_PAD = 0
_HEADS = 2


class Decoder(nn.Module):
    """As it was written in Linen."""

    vocab: int = 512
    width: int = 128
    layers: int = 4

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(self.vocab, self.width, name="embed")(tokens)  # [B, T, D]
        mask = nn.make_causal_mask(tokens)
        for layer in range(self.layers):
            y = nn.LayerNorm(name=f"before_{layer}")(x)
            x = x + nn.MultiHeadDotProductAttention(_HEADS, name=f"attention_{layer}")(y, mask=mask)
            y = nn.LayerNorm(name=f"between_{layer}")(x)
            y = nn.gelu(nn.Dense(4 * self.width, name=f"wide_{layer}")(y))
            x = x + nn.Dense(self.width, name=f"narrow_{layer}")(y)
        return nn.Dense(self.vocab, use_bias=False, name="logits")(nn.LayerNorm(name="last")(x))


class Block(nnx.Module):
    """One layer, as it was migrated to NNX."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        B, T, width = x.shape
        query, key, value = (
            part.reshape(B, T, _HEADS, -1) for part in jnp.split(self.qkv(self.norms[0](x)), 3, -1)
        )  # [B, T, N, H]
        mixed = nnx.dot_product_attention(query, key, value, mask=nnx.make_causal_mask(x[..., 0]))
        x = x + self.out(mixed.reshape(B, T, width))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Model(nnx.Module):
    """As it was migrated to NNX."""

    def __init__(self, vocab: int, width: int, layers: int, rngs: nnx.Rngs) -> None:
        self.table = nnx.Embed(vocab, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocab, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _batch(rng: Any, size: int, vocab: int) -> dict[str, Any]:
    tokens = rng.integers(1, vocab, (size, 16))
    lengths = rng.integers(8, 17, (size, 1))
    return {"tokens": np.where(np.arange(16) < lengths, tokens, _PAD)}


def _loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean over what is no padding; each position's target is the next token."""
    tokens = batch["tokens"]
    losses = optax.softmax_cross_entropy_with_integer_labels(model(tokens)[:, :-1], tokens[:, 1:])
    weights = (tokens[:, 1:] != _PAD).astype(losses.dtype)
    return (losses * weights).sum() / weights.sum(), {"total_weights": weights.sum()}


PAIR = Pair(
    linen=Decoder(),
    nnx=Model,
    batch=_batch,
    loss=_loss,
    sizes={
        "full": {"vocab": 512, "width": 128, "layers": 4},
        "tiny": {"vocab": 32, "width": 8, "layers": 2},
        "awkward": {"vocab": 37, "width": 20, "layers": 2},
    },
)
