"""The decoder layer and its parts in Flax Linen; models/nnx/layers.py says the same in NNX."""

import flax.linen as nn
import jax
from jax.nn.initializers import ones

from models import ops
from models.config import ModelConfig
from models.ops import Site
from models.projection import projection
from models.quant import rounding


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.scale = self.param("scale", ones, (config.embed,), config.weight_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, T, D]."""
        return ops.rms_norm(x, self.scale, self.config.norm_epsilon)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        formats = {"use_bias": False, "dtype": config.dtype, "param_dtype": config.weight_dtype}
        self.query = nn.DenseGeneral(
            (config.heads, config.head_dim),
            kernel_init=ops.query_initializer(config.head_dim),
            dot_general=projection(config, Site.QUERY),
            **formats,
        )
        self.key = nn.DenseGeneral(
            (config.kv_heads, config.head_dim),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.KEY),
            **formats,
        )
        self.value = nn.DenseGeneral(
            (config.kv_heads, config.head_dim),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.VALUE),
            **formats,
        )
        self.out = nn.DenseGeneral(
            config.embed,
            axis=(-2, -1),
            kernel_init=ops.fan_in_normal,
            dot_general=projection(config, Site.OUT),
            **formats,
        )

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
        formats = {"use_bias": False, "dtype": config.dtype, "param_dtype": config.weight_dtype}
        self.wi_0 = nn.DenseGeneral(
            config.mlp,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WI_0),
            **formats,
        )
        self.wi_1 = nn.DenseGeneral(
            config.mlp,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WI_1),
            **formats,
        )
        self.wo = nn.DenseGeneral(
            config.embed,
            kernel_init=ops.fan_in_truncated_normal,
            dot_general=projection(config, Site.WO),
            **formats,
        )

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
