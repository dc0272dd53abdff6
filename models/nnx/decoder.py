"""The decoder in Flax NNX; models/linen/decoder.py says the same in Linen."""

import jax
import jax.numpy as jnp
from flax import nnx

from models import ops, partitioning
from models.config import ModelConfig
from models.nnx.layers import DecoderLayer, RMSNorm, dense
from models.ops import Site
from models.parameters import LAYER_AXIS
from models.projection import remat_policy

_STACKED = nnx.StateAxes([(nnx.Param, LAYER_AXIS), (..., 0)])


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
        x = partitioning.constrain(self.token_embedder(tokens), ops.STREAM_AXES)  # [B, T, D]
        x = ops.dropout(x, self.config.dropout_rate, outer_key, Site.EMBEDDING_DROPOUT)
        return self.decoder(x, layer_keys, outer_key)


def _stacked_layers(config: ModelConfig, rngs: nnx.Rngs) -> DecoderLayer:
    """All layers as one module whose parameters are stacked along LAYER_AXIS."""

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(nnx.StateAxes([(..., 0)]),), out_axes=_STACKED)
    def build(rngs: nnx.Rngs) -> DecoderLayer:
        return DecoderLayer(config, rngs)

    return build(rngs)
