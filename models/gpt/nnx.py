"""The GPT in Flax NNX; models/gpt/linen.py says the same in Linen."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import normal

from models.gpt import functions
from models.gpt.config import ModelConfig
from models.gpt.functions import Site
from models.gpt.parameters import LAYER_AXIS, logical_axes
from models.seam import Params
from models.shared import grouped, ops

__all__ = ["apply", "embed", "init", "layer", "logical_axes", "module", "norm"]

M = TypeVar("M", bound=nnx.Module)

_STACKED = nnx.StateAxes([(nnx.Param, LAYER_AXIS), (..., 0)])


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.scale = nnx.Param(jnp.ones((config.embed,)))
        self.bias = nnx.Param(jnp.zeros((config.embed,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return functions.layer_norm(x, self.scale[...], self.bias[...], self.config.norm_epsilon)


class Table(nnx.Module):
    """An array whose rows are looked up."""

    def __init__(self, config: ModelConfig, rows: int, rngs: nnx.Rngs) -> None:
        self.config = config
        shape = (rows, config.embed)
        self.embedding = nnx.Param(normal(config.initial_spread)(rngs.params(), shape))

    def __call__(self) -> jax.Array:
        """The table [rows, D] in the model's type."""
        return self.embedding[...].astype(self.config.dtype)


class Heads(nnx.Module):
    """The matmul that makes queries, keys and values of all heads."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        shape = (config.heads, 3, config.head_dim)
        kernel = normal(config.initial_spread)
        self.kernel = nnx.Param(kernel(rngs.params(), (config.embed, *shape)))
        self.bias = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Queries, keys and values [B, T, N, 3, H] of x [B, T, D]."""
        kernel, bias = (array[...].astype(self.config.dtype) for array in (self.kernel, self.bias))
        return functions.heads(x, kernel, bias)


def dense(
    config: ModelConfig,
    in_features: int | tuple[int, ...],
    features: int,
    spread: float,
    rngs: nnx.Rngs,
    axis: int | tuple[int, ...] = -1,
) -> nnx.LinearGeneral:
    """A matmul with a kernel and a bias, from `axis` of its input to `features`."""
    return nnx.LinearGeneral(
        in_features, features, axis=axis, dtype=config.dtype, kernel_init=normal(spread), rngs=rngs
    )


class Attention(nnx.Module):
    """Causal self-attention."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        D, N, H = config.embed, config.heads, config.head_dim
        self.qkv = Heads(config, rngs)
        self.out = dense(config, (N, H), D, config.last_spread, rngs, axis=(-2, -1))

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]; `key` is the layer's."""
        qkv = self.qkv(x)  # [B, T, N, 3, H]
        return self.out(functions.attention(qkv, self.config, key))


class MLP(nnx.Module):
    """Two matmuls around a GELU."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        D, F = config.embed, config.mlp
        self.wi = dense(config, D, F, config.initial_spread, rngs)
        self.wo = dense(config, F, D, config.last_spread, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]."""
        return self.wo(functions.gelu(self.wi(x)))


class Layer(nnx.Module):
    """Attention and MLP, each behind a norm, dropped out and added to the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.pre_attention_norm = LayerNorm(config)
        self.self_attention = Attention(config, rngs)
        self.pre_mlp_norm = LayerNorm(config)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        rate = self.config.hidden_dropout
        mixed = self.self_attention(self.pre_attention_norm(x), key)
        x = functions.stream(x + functions.dropout(mixed, rate, key, Site.AFTER_ATTENTION))
        mixed = self.mlp(self.pre_mlp_norm(x))
        return functions.stream(x + functions.dropout(mixed, rate, key, Site.AFTER_MLP))


class Decoder(nnx.Module):
    """The layers, scanned, and the norm after them."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.layers = _stacked_layers(config, rngs)
        self.final_norm = LayerNorm(config)

    def __call__(self, x: jax.Array, layer_keys: jax.Array) -> jax.Array:
        """All steps of the residual stream x [B, T, D], normed."""

        def forward(layer: Layer, x: jax.Array, layer_key: jax.Array) -> jax.Array:
            return layer(x, layer_key)

        if self.config.remat != "none":
            forward = nnx.remat(forward, prevent_cse=False)
        scan = nnx.scan(
            forward,
            in_axes=(_STACKED, nnx.Carry, 0),
            out_axes=nnx.Carry,
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        x = scan(self.layers, x, layer_keys)
        return self.final_norm(x)


class Transformer(nnx.Module):
    """The whole model; its table embeds the tokens and makes the logits."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.token_embedder = Table(config, config.vocab, rngs)
        self.position_embedder = Table(config, config.places, rngs)
        self.decoder = Decoder(config, rngs)

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is the microbatch's."""
        layer_keys, outer_key = ops.layer_keys(key, self.config.layers)
        table = self.token_embedder()
        x = functions.embed(self.config, table, self.position_embedder(), tokens, outer_key)
        return grouped.logits(self.decoder(x, layer_keys), table).astype(jnp.float32)


def _stacked_layers(config: ModelConfig, rngs: nnx.Rngs) -> Layer:
    """All layers as one module whose parameters are stacked along LAYER_AXIS."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(nnx.StateAxes([(..., 0)]),), out_axes=_STACKED)
    def build(rngs: nnx.Rngs) -> Layer:
        return Layer(config, rngs)

    return build(rngs)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by NNX's own key derivation."""
    model = Transformer(config, nnx.Rngs(key))
    return functions.fresh(nnx.to_pure_dict(nnx.state(model, nnx.Param)), config)


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is the microbatch's."""
    return nnx.merge(_graph(Transformer, config), functions.in_order(params, config))(tokens, key)


def module(config: ModelConfig) -> Transformer:
    """The model as NNX's own object."""
    return Transformer(config, nnx.Rngs(0))


def embed(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """The residual stream [B, T, D] of tokens [B, T]."""
    return functions.embed(config, *functions.tables(params), tokens, key)


def layer(config: ModelConfig, params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
    """The residual stream x [B, T, D] after one layer."""
    return nnx.merge(_graph(Layer, config), params)(x, key)


def norm(config: ModelConfig, params: Params, x: jax.Array) -> jax.Array:
    """The residual stream x [B, T, D] after the norm that follows all layers."""
    return nnx.merge(_graph(_norm, config), params)(x)


def _norm(config: ModelConfig, rngs: nnx.Rngs) -> LayerNorm:
    return LayerNorm(config)


@cache
def _graph(build: Callable[[ModelConfig, nnx.Rngs], M], config: ModelConfig) -> nnx.GraphDef[M]:
    """A module's structure without arrays, made once and outside of any trace."""
    return nnx.graphdef(nnx.eval_shape(lambda: build(config, nnx.Rngs(0))))
