"""The Honeycrisp in Flax Linen; models/honeycrisp/nnx.py says the same in NNX."""

from dataclasses import replace
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer, ones

from models.honeycrisp import keeping
from models.honeycrisp.config import ModelConfig
from models.honeycrisp.parameters import LAYER_AXIS, NARROW, OUT, QKV, TABLE, WIDEN, logical_axes
from models.seam import Batch, Outcome, Params
from models.shared import grouped, ops, partitioning
from models.shared.losses import live_cross_entropy
from models.shared.partitioning import Axes

__all__ = ["apply", "init", "logical_axes", "loss"]


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    config: ModelConfig
    features: int

    def setup(self) -> None:
        self.scale = self.param("scale", ones, (self.features,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [..., features]."""
        return grouped.rms_norm(x, self.scale, self.config.norm_epsilon)


class Weight(nn.Module):
    """One array, held in pieces and handed out whole."""

    shape: tuple[int, ...]
    axes: Axes
    initializer: Initializer

    def setup(self) -> None:
        self.weight = self.param("weight", self.initializer, self.shape)

    def __call__(self) -> jax.Array:
        """The whole array."""
        return partitioning.whole(self.weight, self.axes)


class FusedProjection(nn.Module):
    """Queries, keys and values by one matrix product."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        heads = config.heads + 2 * config.kv_heads
        shape = (config.embed, heads, config.head_dim)
        self.qkv_proj = Weight(shape, QKV, ops.qkv_initializer)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Queries [B, T, N, H], keys and values [B, T, K, H] of x [B, T, D]."""
        config = self.config
        fused = jnp.einsum("btd,dnh->btnh", x, self.qkv_proj())
        return jnp.split(fused, [config.heads, config.heads + config.kv_heads], axis=2)


class RotaryProjection(nn.Module):
    """The fused projection, its queries and keys rotated by position."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.i_proj = FusedProjection(config)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, T, N, H], keys and values [B, T, K, H] of x [B, T, D]."""
        query, key, value = self.i_proj(x)
        query = grouped.rotate_neighbours(query, self.config.rope_timescale)
        key = grouped.rotate_neighbours(key, self.config.rope_timescale)
        return (
            checkpoint_name(query, keeping.QUERY),
            checkpoint_name(key, keeping.KEY),
            checkpoint_name(value, keeping.VALUE),
        )


class HeadScale(nn.Module):
    """A norm over the width of each head, and a factor."""

    config: ModelConfig
    factor: float

    def setup(self) -> None:
        config = self.config
        self.norm = RMSNorm(config, config.head_dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the heads of x [B, T, heads, H]."""
        return grouped.barrier(self.norm(x) * self.factor)


class Attention(nn.Module):
    """Causal self-attention with rotary positions, and norms of queries and keys after them."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        shape = (config.embed, config.heads, config.head_dim)
        self.i_proj = RotaryProjection(config)
        self.scale_query = HeadScale(config, config.head_dim**-0.5)
        self.scale_key = HeadScale(config, 1.0)
        self.o_proj = Weight(shape, OUT, ops.out_initializer)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Mixes the positions of x [B, T, D], within the segments [B, T] if there are any."""
        query, key, value = self.i_proj(x)
        query, key = self.scale_query(query), self.scale_key(key)
        context = grouped.attention(query, key, value, segments, self.config.attention)
        context = checkpoint_name(context, grouped.CONTEXT)  # [B, T, N, H]
        out = jnp.einsum("btnh,dnh->btd", context, self.o_proj())
        return checkpoint_name(out, keeping.OUT)


class SelfAttention(nn.Module):
    """Attention behind a norm and around a residual."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.norm = RMSNorm(config, config.embed)
        self.attention = Attention(config)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        return x + self.attention(self.norm(x), segments)


class FeedForward(nn.Module):
    """A gated MLP behind a norm and around a residual."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        D, F = config.embed, config.mlp
        self.norm = RMSNorm(config, D)
        self.linear1_0 = Weight((D, F), WIDEN, ops.fan_in_normal)
        self.linear1_1 = Weight((D, F), WIDEN, ops.fan_in_normal)
        self.linear2 = Weight((F, D), NARROW, ops.fan_in_normal)

    def __call__(self, x: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        normed = self.norm(x)
        gate = nn.silu(jnp.einsum("btd,df->btf", normed, self.linear1_0()))
        hidden = gate * jnp.einsum("btd,df->btf", normed, self.linear1_1())
        return x + jnp.einsum("btf,fd->btd", hidden, self.linear2())


class Layer(nn.Module):
    """Attention, then the MLP."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.self_attention = SelfAttention(config)
        self.feed_forward = FeedForward(config)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        return self.feed_forward(self.self_attention(x, segments))


class Repeat(nn.Module):
    """The layers, scanned."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.layer = Layer(config)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """All steps of the residual stream x [B, T, D]."""

        def forward(layer: Layer, x: jax.Array) -> tuple[jax.Array, None]:
            return layer(x, segments), None

        if self.config.remat != "none":
            policy = keeping.remat_policy(self.config)
            forward = nn.remat(forward, prevent_cse=False, policy=policy)
        scan = nn.scan(
            forward,
            variable_axes={"params": LAYER_AXIS},
            split_rngs={"params": True},
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        x, _ = scan(self.layer, x)
        return x


class Transformer(nn.Module):
    """The stack of layers."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.repeat = Repeat(config)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """All steps of the residual stream x [B, T, D]."""
        return self.repeat(x, segments)


class Embeddings(nn.Module):
    """The table of the tokens."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.token_emb = Weight((config.vocab, config.embed), TABLE, ops.fan_out_normal)

    def __call__(self) -> jax.Array:
        """The table [V, D]."""
        return self.token_emb()


class Decoder(nn.Module):
    """Tokens in, logits out, both by one table."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.emb = Embeddings(config)
        self.transformer = Transformer(config)
        self.output_norm = RMSNorm(config, config.embed)

    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]."""
        table = self.emb()
        x = partitioning.constrain(grouped.lookup(table, tokens), ops.STREAM_AXES)  # [B, T, D]
        x = self.output_norm(self.transformer(x, segments))
        return grouped.logits(x, table)


class Model(nn.Module):
    """The whole model."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.decoder = Decoder(config)

    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T], within the segments [B, T] if there are any."""
        return self.decoder(tokens, segments)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by Linen's own key derivation."""
    # No parameter depends on B, on T, or on how attention is computed.
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Model(replace(config, attention="xla")).init(key, tokens, None)["params"]


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; nothing is random."""
    return _logits(config, params, tokens, None).astype(jnp.float32)


def loss(
    config: ModelConfig, params: Params, model_state: None, batch: Batch, key: jax.Array
) -> Outcome:
    """The loss of a batch, which may tell of `segments`, and its metrics."""
    logits = _logits(config, params, batch["inputs"], batch.get("segments"))
    return Outcome(*live_cross_entropy(logits, batch["targets"], config.z_loss))


def _logits(
    config: ModelConfig, params: Params, tokens: jax.Array, segments: jax.Array | None
) -> jax.Array:
    """Logits [B, T, V] in the config's dtype, to which all parameters are brought at once."""
    rounded = ops.cast(params, config.dtype)
    return cast(jax.Array, Model(config).apply({"params": rounded}, tokens, segments))
