"""The Honeycrisp in Flax NNX; models/honeycrisp/linen.py says the same in Linen."""

from functools import cache

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer

from models.honeycrisp import keeping
from models.honeycrisp.config import ModelConfig
from models.honeycrisp.parameters import LAYER_AXIS, NARROW, OUT, QKV, TABLE, WIDEN, logical_axes
from models.seam import Batch, Outcome, Params
from models.shared import grouped, ops, partitioning
from models.shared.losses import live_cross_entropy
from models.shared.partitioning import Axes

__all__ = ["apply", "init", "logical_axes", "loss", "module"]

_STACKED = nnx.StateAxes([(nnx.Param, LAYER_AXIS), (..., 0)])


class RMSNorm(nnx.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, config: ModelConfig, features: int) -> None:
        self.config = config
        self.scale = nnx.Param(jnp.ones((features,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [..., features]."""
        return grouped.rms_norm(x, self.scale[...], self.config.norm_epsilon)


class Weight(nnx.Module):
    """One array, held in pieces and handed out whole."""

    def __init__(
        self, shape: tuple[int, ...], axes: Axes, initializer: Initializer, rngs: nnx.Rngs
    ) -> None:
        self.axes = axes
        self.weight = nnx.Param(initializer(rngs.params(), shape))

    def __call__(self) -> jax.Array:
        """The whole array."""
        return partitioning.whole(self.weight[...], self.axes)


class FusedProjection(nnx.Module):
    """Queries, keys and values by one matrix product."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        heads = config.heads + 2 * config.kv_heads
        shape = (config.embed, heads, config.head_dim)
        self.qkv_proj = Weight(shape, QKV, ops.qkv_initializer, rngs)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Queries [B, T, N, H], keys and values [B, T, K, H] of x [B, T, D]."""
        config = self.config
        fused = jnp.einsum("btd,dnh->btnh", x, self.qkv_proj())
        return jnp.split(fused, [config.heads, config.heads + config.kv_heads], axis=2)


class RotaryProjection(nnx.Module):
    """The fused projection, its queries and keys rotated by position."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.i_proj = FusedProjection(config, rngs)

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


class HeadScale(nnx.Module):
    """A norm over the width of each head, and a factor."""

    def __init__(self, config: ModelConfig, factor: float) -> None:
        self.config = config
        self.factor = factor
        self.norm = RMSNorm(config, config.head_dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the heads of x [B, T, heads, H]."""
        return grouped.barrier(self.norm(x) * self.factor)


class Attention(nnx.Module):
    """Causal self-attention with rotary positions, and norms of queries and keys after them."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        shape = (config.embed, config.heads, config.head_dim)
        self.i_proj = RotaryProjection(config, rngs)
        self.scale_query = HeadScale(config, config.head_dim**-0.5)
        self.scale_key = HeadScale(config, 1.0)
        self.o_proj = Weight(shape, OUT, ops.out_initializer, rngs)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Mixes the positions of x [B, T, D], within the segments [B, T] if there are any."""
        query, key, value = self.i_proj(x)
        query, key = self.scale_query(query), self.scale_key(key)
        context = grouped.attention(query, key, value, segments, self.config.attention)
        context = checkpoint_name(context, grouped.CONTEXT)  # [B, T, N, H]
        out = jnp.einsum("btnh,dnh->btd", context, self.o_proj())
        return checkpoint_name(out, keeping.OUT)


class SelfAttention(nnx.Module):
    """Attention behind a norm and around a residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.norm = RMSNorm(config, config.embed)
        self.attention = Attention(config, rngs)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        return x + self.attention(self.norm(x), segments)


class FeedForward(nnx.Module):
    """A gated MLP behind a norm and around a residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        D, F = config.embed, config.mlp
        self.norm = RMSNorm(config, D)
        self.linear1_0 = Weight((D, F), WIDEN, ops.fan_in_normal, rngs)
        self.linear1_1 = Weight((D, F), WIDEN, ops.fan_in_normal, rngs)
        self.linear2 = Weight((F, D), NARROW, ops.fan_in_normal, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        normed = self.norm(x)
        gate = nnx.silu(jnp.einsum("btd,df->btf", normed, self.linear1_0()))
        hidden = gate * jnp.einsum("btd,df->btf", normed, self.linear1_1())
        return x + jnp.einsum("btf,fd->btd", hidden, self.linear2())


class Layer(nnx.Module):
    """Attention, then the MLP."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.self_attention = SelfAttention(config, rngs)
        self.feed_forward = FeedForward(config, rngs)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """One step of the residual stream x [B, T, D]."""
        return self.feed_forward(self.self_attention(x, segments))


class Repeat(nnx.Module):
    """The layers, scanned."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.layer = _stacked_layers(config, rngs)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """All steps of the residual stream x [B, T, D]."""

        def forward(layer: Layer, x: jax.Array) -> jax.Array:
            return layer(x, segments)

        if self.config.remat != "none":
            policy = keeping.remat_policy(self.config)
            forward = nnx.remat(forward, prevent_cse=False, policy=policy)
        scan = nnx.scan(
            forward,
            in_axes=(_STACKED, nnx.Carry),
            out_axes=nnx.Carry,
            length=self.config.layers,
            unroll=self.config.layers if self.config.unroll else 1,
        )
        return scan(self.layer, x)


class Transformer(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.repeat = Repeat(config, rngs)

    def __call__(self, x: jax.Array, segments: jax.Array | None) -> jax.Array:
        """All steps of the residual stream x [B, T, D]."""
        return self.repeat(x, segments)


class Embeddings(nnx.Module):
    """The table of the tokens."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.token_emb = Weight((config.vocab, config.embed), TABLE, ops.fan_out_normal, rngs)

    def __call__(self) -> jax.Array:
        """The table [V, D]."""
        return self.token_emb()


class Decoder(nnx.Module):
    """Tokens in, logits out, both by one table."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.emb = Embeddings(config, rngs)
        self.transformer = Transformer(config, rngs)
        self.output_norm = RMSNorm(config, config.embed)

    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]."""
        table = self.emb()
        x = partitioning.constrain(grouped.lookup(table, tokens), ops.STREAM_AXES)  # [B, T, D]
        x = self.output_norm(self.transformer(x, segments))
        return grouped.logits(x, table)


class Model(nnx.Module):
    """The whole model."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.decoder = Decoder(config, rngs)

    def __call__(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T], within the segments [B, T] if there are any."""
        return self.decoder(tokens, segments)


def _stacked_layers(config: ModelConfig, rngs: nnx.Rngs) -> Layer:
    """All layers as one module whose parameters are stacked along LAYER_AXIS."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(nnx.StateAxes([(..., 0)]),), out_axes=_STACKED)
    def build(rngs: nnx.Rngs) -> Layer:
        return Layer(config, rngs)

    return build(rngs)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by NNX's own key derivation."""
    return nnx.to_pure_dict(nnx.state(Model(config, nnx.Rngs(key)), nnx.Param))


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
    return nnx.merge(_graph(config), rounded)(tokens, segments)


def module(config: ModelConfig) -> Model:
    """The model as NNX's own object."""
    return Model(config, nnx.Rngs(0))


@cache
def _graph(config: ModelConfig) -> nnx.GraphDef[Model]:
    """The module's structure without arrays, made once and outside of any trace."""
    return nnx.graphdef(nnx.eval_shape(lambda: module(config)))
