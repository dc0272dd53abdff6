"""The GPT-2 in Flax Linen; models/examples/gpt2/nnx.py says the same in NNX."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.examples.gpt2 import shared
from models.examples.gpt2.config import ModelConfig
from models.examples.gpt2.shared import logical_axes, optimizer
from models.seam import Params
from models.shared import ops, partitioning

__all__ = ["apply", "init", "logical_axes", "optimizer"]


class Attention(nn.Module):
    """Causal self-attention."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.qkv = nn.Dense(3 * config.embed, dtype=config.dtype)
        self.proj = nn.Dense(config.embed, dtype=config.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]."""
        return self.proj(shared.attention(self.qkv(x), self.config.heads))


class MLP(nn.Module):
    """Two matmuls around a GELU."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.fc = nn.Dense(config.mlp, dtype=config.dtype)
        self.out = nn.Dense(config.embed, dtype=config.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]."""
        return self.out(nn.gelu(self.fc(x)))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.ln_1 = nn.LayerNorm(epsilon=config.norm_epsilon, dtype=jnp.float32)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(epsilon=config.norm_epsilon, dtype=jnp.float32)
        self.mlp = MLP(config)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        rate = self.config.dropout_rate
        x = x + shared.dropout(self.attn(self.ln_1(x)), rate, key, shared.ATTENTION_DROPOUT)
        return x + shared.dropout(self.mlp(self.ln_2(x)), rate, key, shared.MLP_DROPOUT)


class Transformer(nn.Module):
    """The GPT-2."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        initializer = shared.embedding_initializer
        self.wte = nn.Embed(
            config.vocab, config.embed, dtype=config.dtype, embedding_init=initializer
        )
        self.wpe = nn.Embed(
            config.positions, config.embed, dtype=config.dtype, embedding_init=initializer
        )
        self.h = [Block(config) for _ in range(config.layers)]
        self.ln_f = nn.LayerNorm(epsilon=config.norm_epsilon, dtype=jnp.float32)

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is this step's."""
        config = self.config
        layer_keys, outer_key = shared.layer_keys(key, config.layers)
        positions = shared.position_numbers(config, tokens.shape[1])
        x = self.wte(tokens) + self.wpe(positions)[None]  # [B, T, D]
        x = partitioning.constrain(x, ops.STREAM_AXES)
        x = shared.dropout(x, config.dropout_rate, outer_key, shared.EMBEDDING_DROPOUT)
        for block, layer_key in zip(self.h, layer_keys, strict=True):
            x = block(x, layer_key)
        return self.wte.attend(self.ln_f(x)).astype(jnp.float32)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by Linen's own key derivation."""
    return cast(Params, Transformer(config).init(key, jnp.zeros((1, 1), jnp.int32), key)["params"])


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    return cast(jax.Array, Transformer(config).apply({"params": params}, tokens, key))
