"""The decoder layer and its parts in Flax NNX; models/linen/layers.py says the same in Linen."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer

from models import ops
from models.config import ModelConfig
from models.ops import Site
from models.projection import projection, rounding


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
