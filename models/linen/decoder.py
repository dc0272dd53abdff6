"""The decoder in Flax Linen; models/nnx/decoder.py says the same in NNX."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import ops, partitioning
from models.config import ModelConfig
from models.linen.layers import DecoderLayer, RMSNorm, dense
from models.ops import Site
from models.parameters import LAYER_AXIS
from models.projection import remat_policy


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
        x = partitioning.constrain(self.token_embedder(tokens), ops.STREAM_AXES)  # [B, T, D]
        x = ops.dropout(x, self.config.dropout_rate, outer_key, Site.EMBEDDING_DROPOUT)
        return self.decoder(x, layer_keys, outer_key)
