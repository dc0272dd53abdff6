"""The decoder in Flax Linen; models/decoder/nnx.py says the same in NNX."""

from dataclasses import replace
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer, ones

from models.decoder.config import ModelConfig
from models.decoder.parameters import LAYER_AXIS, logical_axes
from models.decoder.sites import Site, projection, remat_policy
from models.seam import Params
from models.shared import ops, partitioning
from models.shared.projection import rounding

__all__ = ["apply", "init", "logical_axes"]


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.scale = self.param("scale", ones, (config.embed,), config.weight_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return ops.rms_norm(x, self.scale, self.config.norm_epsilon)


def dense(
    config: ModelConfig,
    features: int | tuple[int, ...],
    site: Site,
    kernel_init: Initializer,
    axis: int | tuple[int, ...] = -1,
) -> nn.DenseGeneral:
    """A matmul with a kernel and no bias, from `axis` of its input to `features`."""
    return nn.DenseGeneral(
        features,
        axis=axis,
        use_bias=False,
        dtype=config.dtype,
        param_dtype=config.weight_dtype,
        kernel_init=kernel_init,
        dot_general=projection(config, site),
    )


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        N, K, H = config.heads, config.kv_heads, config.head_dim
        self.query = dense(config, (N, H), Site.QUERY, ops.query_initializer(H))
        self.key = dense(config, (K, H), Site.KEY, ops.fan_in_normal)
        self.value = dense(config, (K, H), Site.VALUE, ops.fan_in_normal)
        self.out = dense(config, config.embed, Site.OUT, ops.fan_in_normal, axis=(-2, -1))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]."""
        query = ops.rope(self.query(x), self.config.rope_timescale)  # [B, T, N, H]
        key = ops.rope(self.key(x), self.config.rope_timescale)  # [B, T, K, H]
        value = self.value(x)  # [B, T, K, H]
        return self.out(ops.attention(query, key, value, self.config.attention))


class MLP(nn.Module):
    """A gated MLP: silu(x wi_0) * (x wi_1), dropped out, times wo."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        D, F = config.embed, config.mlp
        self.wi_0 = dense(config, F, Site.WI_0, ops.fan_in_truncated_normal)
        self.wi_1 = dense(config, F, Site.WI_1, ops.fan_in_truncated_normal)
        self.wo = dense(config, D, Site.WO, ops.fan_in_truncated_normal)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]; `key` is the layer's."""
        hidden = nn.silu(self.wi_0(x)) * self.wi_1(x)  # [B, T, F]
        hidden = ops.dropout(hidden, self.config.dropout_rate, key, Site.MLP_DROPOUT)
        return self.wo(hidden)


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.pre_self_attention_layer_norm = RMSNorm(config)
        self.self_attention = Attention(config)
        self.post_self_attention_layer_norm = RMSNorm(config)
        self.mlp = MLP(config)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        with rounding(key):
            x = x + self.self_attention(self.pre_self_attention_layer_norm(x))
            x = x + self.mlp(self.post_self_attention_layer_norm(x), key)
            return ops.dropout(x, self.config.dropout_rate, key, Site.LAYER_DROPOUT)


class Decoder(nn.Module):
    """The layers, scanned, and the head that makes logits of the residual stream."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.layers = DecoderLayer(config)
        self.decoder_norm = RMSNorm(config)
        self.logits_dense = dense(config, config.vocab, Site.LOGITS, ops.fan_in_truncated_normal)

    def __call__(self, x: jax.Array, layer_keys: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of the embedded tokens x [B, T, D]."""

        def forward(
            layer: DecoderLayer, x: jax.Array, layer_key: jax.Array
        ) -> tuple[jax.Array, None]:
            return layer(x, layer_key), None

        if self.config.remat != "none":
            forward = nn.remat(forward, prevent_cse=False, policy=remat_policy(self.config))
        scan = nn.scan(
            forward,
            variable_axes={"params": LAYER_AXIS},
            split_rngs={"params": True},
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        x, _ = scan(self.layers, x, layer_keys)
        x = self.decoder_norm(x)
        x = ops.dropout(x, self.config.dropout_rate, key, Site.HEAD_DROPOUT)
        return self.logits_dense(x).astype(jnp.float32)


class Transformer(nn.Module):
    """Embedding and decoder."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.token_embedder = nn.Embed(
            config.vocab,
            config.embed,
            embedding_init=ops.embedding_initializer,
            dtype=config.dtype,
            param_dtype=config.weight_dtype,
        )
        self.decoder = Decoder(config)

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is this step's."""
        layer_keys, outer_key = ops.layer_keys(key, self.config.layers)
        table = self.token_embedder.embedding  # [V, D]
        x = partitioning.look_up(table, tokens, self.config.dtype)  # [B, T, D]
        x = partitioning.constrain(x, ops.STREAM_AXES)
        x = ops.dropout(x, self.config.dropout_rate, outer_key, Site.EMBEDDING_DROPOUT)
        return self.decoder(x, layer_keys, outer_key)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by Linen's own key derivation."""
    # No parameter depends on B, on T, or on how attention is computed.
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Transformer(replace(config, attention="xla")).init(key, tokens, key)["params"]


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    logits = Transformer(config).apply({"params": params}, tokens, key)
    return cast(jax.Array, logits)
