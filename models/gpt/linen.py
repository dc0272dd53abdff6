"""The GPT in Flax Linen; models/gpt/nnx.py says the same in NNX."""

from dataclasses import replace
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal, ones, zeros

from models.gpt import functions
from models.gpt.config import ModelConfig
from models.gpt.functions import Site
from models.gpt.parameters import LAYER_AXIS, logical_axes
from models.seam import Params
from models.shared import grouped, ops

__all__ = ["apply", "embed", "init", "layer", "logical_axes", "norm"]


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.scale = self.param("scale", ones, (config.embed,))
        self.bias = self.param("bias", zeros, (config.embed,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return functions.layer_norm(x, self.scale, self.bias, self.config.norm_epsilon)


class Table(nn.Module):
    """An array whose rows are looked up."""

    config: ModelConfig
    rows: int

    def setup(self) -> None:
        config = self.config
        shape = (self.rows, config.embed)
        self.embedding = self.param("embedding", normal(config.initial_spread), shape)

    def __call__(self) -> jax.Array:
        """The table [rows, D] in the model's type."""
        return self.embedding.astype(self.config.dtype)


class Heads(nn.Module):
    """The matmul that makes queries, keys and values of all heads."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        shape = (config.heads, 3, config.head_dim)
        kernel = normal(config.initial_spread)
        self.kernel = self.param("kernel", kernel, (config.embed, *shape))
        self.bias = self.param("bias", zeros, shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Queries, keys and values [B, T, N, 3, H] of x [B, T, D]."""
        kernel, bias = (array.astype(self.config.dtype) for array in (self.kernel, self.bias))
        return functions.heads(x, kernel, bias)


def dense(
    config: ModelConfig,
    features: int,
    spread: float,
    axis: int | tuple[int, ...] = -1,
) -> nn.DenseGeneral:
    """A matmul with a kernel and a bias, from `axis` of its input to `features`."""
    return nn.DenseGeneral(features, axis=axis, dtype=config.dtype, kernel_init=normal(spread))


class Attention(nn.Module):
    """Causal self-attention."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.qkv = Heads(config)
        self.out = dense(config, config.embed, config.last_spread, axis=(-2, -1))

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]; `key` is the layer's."""
        qkv = self.qkv(x)  # [B, T, N, 3, H]
        return self.out(functions.attention(qkv, self.config, key))


class MLP(nn.Module):
    """Two matmuls around a GELU."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.wi = dense(config, config.mlp, config.initial_spread)
        self.wo = dense(config, config.embed, config.last_spread)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]."""
        return self.wo(functions.gelu(self.wi(x)))


class Layer(nn.Module):
    """Attention and MLP, each behind a norm, dropped out and added to the residual stream."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.pre_attention_norm = LayerNorm(config)
        self.self_attention = Attention(config)
        self.pre_mlp_norm = LayerNorm(config)
        self.mlp = MLP(config)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        rate = self.config.hidden_dropout
        mixed = self.self_attention(self.pre_attention_norm(x), key)
        x = functions.stream(x + functions.dropout(mixed, rate, key, Site.AFTER_ATTENTION))
        mixed = self.mlp(self.pre_mlp_norm(x))
        return functions.stream(x + functions.dropout(mixed, rate, key, Site.AFTER_MLP))


class Decoder(nn.Module):
    """The layers, scanned, and the norm after them."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.layers = Layer(config)
        self.final_norm = LayerNorm(config)

    def __call__(self, x: jax.Array, layer_keys: jax.Array) -> jax.Array:
        """All steps of the residual stream x [B, T, D], normed."""

        def forward(layer: Layer, x: jax.Array, layer_key: jax.Array) -> tuple[jax.Array, None]:
            return layer(x, layer_key), None

        if self.config.remat != "none":
            forward = nn.remat(forward, prevent_cse=False)
        scan = nn.scan(
            forward,
            variable_axes={"params": LAYER_AXIS},
            split_rngs={"params": True},
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        x, _ = scan(self.layers, x, layer_keys)
        return self.final_norm(x)


class Transformer(nn.Module):
    """The whole model; its table embeds the tokens and makes the logits."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.token_embedder = Table(config, config.vocab)
        self.position_embedder = Table(config, config.places)
        self.decoder = Decoder(config)

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is the microbatch's."""
        layer_keys, outer_key = ops.layer_keys(key, self.config.layers)
        table = self.token_embedder()
        x = functions.embed(self.config, table, self.position_embedder(), tokens, outer_key)
        return grouped.logits(self.decoder(x, layer_keys), table).astype(jnp.float32)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by Linen's own key derivation."""
    # No parameter depends on B, on T, or on how attention is computed.
    tokens = jnp.zeros((1, 1), jnp.int32)
    model = Transformer(replace(config, attention="xla"))
    return functions.fresh(model.init(key, tokens, key)["params"], config)


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is the microbatch's."""
    logits = Transformer(config).apply({"params": functions.in_order(params, config)}, tokens, key)
    return cast(jax.Array, logits)


def embed(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """The residual stream [B, T, D] of tokens [B, T]."""
    return functions.embed(config, *functions.tables(params), tokens, key)


def layer(config: ModelConfig, params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
    """The residual stream x [B, T, D] after one layer."""
    return cast(jax.Array, Layer(config).apply({"params": params}, x, key))


def norm(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """The residual stream x [B, T, D] after the norm that follows all layers."""
    return cast(jax.Array, LayerNorm(config).apply({"params": params}, x))
