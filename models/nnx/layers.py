"""The decoder layer and its parts in Flax NNX; models/linen/layers.py says the same in Linen."""

import jax
import jax.numpy as jnp
from flax import nnx

from models import ops
from models.config import ModelConfig
from models.ops import Site
from models.projection import projection
from models.quant import rounding


class RMSNorm(nnx.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.scale = nnx.Param(jnp.ones((config.embed,), config.weight_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return ops.rms_norm(x, self.scale[...], self.config.norm_epsilon)


class Attention(nnx.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        formats = {"use_bias": False, "dtype": config.dtype, "param_dtype": config.weight_dtype}
        self.query = nnx.LinearGeneral(
            config.embed,
            (config.heads, config.head_dim),
            kernel_init=ops.query_initializer(config.head_dim),
            dot_general=projection(config, Site.QUERY),
            rngs=rngs,
            **formats,
        )
        self.key = nnx.LinearGeneral(
            config.embed,
            (config.kv_heads, config.head_dim),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.KEY),
            rngs=rngs,
            **formats,
        )
        self.value = nnx.LinearGeneral(
            config.embed,
            (config.kv_heads, config.head_dim),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.VALUE),
            rngs=rngs,
            **formats,
        )
        self.out = nnx.LinearGeneral(
            (config.heads, config.head_dim),
            config.embed,
            axis=(-2, -1),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.OUT),
            rngs=rngs,
            **formats,
        )

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
        formats = {"use_bias": False, "dtype": config.dtype, "param_dtype": config.weight_dtype}
        self.wi_0 = nnx.LinearGeneral(
            config.embed,
            config.mlp,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WI_0),
            rngs=rngs,
            **formats,
        )
        self.wi_1 = nnx.LinearGeneral(
            config.embed,
            config.mlp,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WI_1),
            rngs=rngs,
            **formats,
        )
        self.wo = nnx.LinearGeneral(
            config.mlp,
            config.embed,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WO),
            rngs=rngs,
            **formats,
        )

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
