"""The decoder in Flax NNX; models/decoder/linen.py says the same in Linen."""

from functools import cache

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer

from models.decoder.config import ModelConfig
from models.decoder.parameters import LAYER_AXIS, logical_axes
from models.decoder.sites import Site, projection, remat_policy
from models.seam import Params
from models.shared import ops, partitioning
from models.shared.projection import rounding

__all__ = ["apply", "init", "logical_axes", "module"]

_STACKED = nnx.StateAxes([(nnx.Param, LAYER_AXIS), (..., 0)])


class RMSNorm(nnx.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.scale = nnx.Param(jnp.ones((config.embed,), config.weight_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return ops.rms_norm(x, self.scale[...], self.config.norm_epsilon)


def dense(
    config: ModelConfig,
    in_features: int | tuple[int, ...],
    features: int | tuple[int, ...],
    site: Site,
    kernel_init: Initializer,
    rngs: nnx.Rngs,
    axis: int | tuple[int, ...] = -1,
) -> nnx.LinearGeneral:
    """A matmul with a kernel and no bias, from `axis` of its input to `features`."""
    return nnx.LinearGeneral(
        in_features,
        features,
        axis=axis,
        use_bias=False,
        dtype=config.dtype,
        param_dtype=config.weight_dtype,
        kernel_init=kernel_init,
        dot_general=projection(config, site),
        rngs=rngs,
    )


class Attention(nnx.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        D, N, K, H = config.embed, config.heads, config.kv_heads, config.head_dim
        self.query = dense(config, D, (N, H), Site.QUERY, ops.query_initializer(H), rngs)
        self.key = dense(config, D, (K, H), Site.KEY, ops.fan_in_normal, rngs)
        self.value = dense(config, D, (K, H), Site.VALUE, ops.fan_in_normal, rngs)
        self.out = dense(config, (N, H), D, Site.OUT, ops.fan_in_normal, rngs, axis=(-2, -1))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]."""
        query = ops.rope(self.query(x), self.config.rope_timescale)  # [B, T, N, H]
        key = ops.rope(self.key(x), self.config.rope_timescale)  # [B, T, K, H]
        value = self.value(x)  # [B, T, K, H]
        return self.out(ops.attention(query, key, value, self.config.attention))


class MLP(nnx.Module):
    """A gated MLP: silu(x wi_0) * (x wi_1), dropped out, times wo."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        D, F = config.embed, config.mlp
        self.wi_0 = dense(config, D, F, Site.WI_0, ops.fan_in_truncated_normal, rngs)
        self.wi_1 = dense(config, D, F, Site.WI_1, ops.fan_in_truncated_normal, rngs)
        self.wo = dense(config, F, D, Site.WO, ops.fan_in_truncated_normal, rngs)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]; `key` is the layer's."""
        hidden = nnx.silu(self.wi_0(x)) * self.wi_1(x)  # [B, T, F]
        hidden = ops.dropout(hidden, self.config.dropout_rate, key, Site.MLP_DROPOUT)
        return self.wo(hidden)


class DecoderLayer(nnx.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.pre_self_attention_layer_norm = RMSNorm(config)
        self.self_attention = Attention(config, rngs)
        self.post_self_attention_layer_norm = RMSNorm(config)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        with rounding(key):
            x = x + self.self_attention(self.pre_self_attention_layer_norm(x))
            x = x + self.mlp(self.post_self_attention_layer_norm(x), key)
            return ops.dropout(x, self.config.dropout_rate, key, Site.LAYER_DROPOUT)


class Decoder(nnx.Module):
    """The layers, scanned, and the head that makes logits of the residual stream."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.layers = _stacked_layers(config, rngs)
        self.decoder_norm = RMSNorm(config)
        self.logits_dense = dense(
            config, config.embed, config.vocab, Site.LOGITS, ops.fan_in_truncated_normal, rngs
        )

    def __call__(self, x: jax.Array, layer_keys: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of the embedded tokens x [B, T, D]."""

        def forward(layer: DecoderLayer, x: jax.Array, layer_key: jax.Array) -> jax.Array:
            return layer(x, layer_key)

        if self.config.remat != "none":
            forward = nnx.remat(forward, prevent_cse=False, policy=remat_policy(self.config))
        scan = nnx.scan(
            forward,
            in_axes=(_STACKED, nnx.Carry, 0),
            out_axes=nnx.Carry,
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        x = scan(self.layers, x, layer_keys)
        x = self.decoder_norm(x)
        x = ops.dropout(x, self.config.dropout_rate, key, Site.HEAD_DROPOUT)
        return self.logits_dense(x).astype(jnp.float32)


class Transformer(nnx.Module):
    """Embedding and decoder."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.token_embedder = nnx.Embed(
            config.vocab,
            config.embed,
            embedding_init=ops.embedding_initializer,
            dtype=config.dtype,
            param_dtype=config.weight_dtype,
            rngs=rngs,
        )
        self.decoder = Decoder(config, rngs)

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is this step's."""
        layer_keys, outer_key = ops.layer_keys(key, self.config.layers)
        table = self.token_embedder.embedding[...]  # [V, D]
        x = partitioning.look_up(table, tokens, self.config.dtype)  # [B, T, D]
        x = partitioning.constrain(x, ops.STREAM_AXES)
        x = ops.dropout(x, self.config.dropout_rate, outer_key, Site.EMBEDDING_DROPOUT)
        return self.decoder(x, layer_keys, outer_key)


def _stacked_layers(config: ModelConfig, rngs: nnx.Rngs) -> DecoderLayer:
    """All layers as one module whose parameters are stacked along LAYER_AXIS."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(nnx.StateAxes([(..., 0)]),), out_axes=_STACKED)
    def build(rngs: nnx.Rngs) -> DecoderLayer:
        return DecoderLayer(config, rngs)

    return build(rngs)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by NNX's own key derivation."""
    return nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(key)), nnx.Param))


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    return nnx.merge(_graph(config), params)(tokens, key)


def module(config: ModelConfig) -> Transformer:
    """The model as NNX's own object."""
    return Transformer(config, nnx.Rngs(0))


@cache
def _graph(config: ModelConfig) -> nnx.GraphDef[Transformer]:
    """The module's structure without arrays, made once and outside of any trace."""
    return nnx.graphdef(nnx.eval_shape(lambda: module(config)))
