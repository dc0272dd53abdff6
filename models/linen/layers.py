"""The decoder layer and its parts in Flax Linen; models/nnx/layers.py says the same in NNX."""

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer, ones

from models import ops
from models.config import ModelConfig
from models.ops import Site
from models.projection import projection, rounding


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
