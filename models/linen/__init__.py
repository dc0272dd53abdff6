"""The decoder in Flax Linen, behind the seam that models/__init__.py describes."""

from dataclasses import replace
from typing import cast

import jax
import jax.numpy as jnp

from models.config import ModelConfig
from models.linen.decoder import Transformer
from models.parameters import Params, logical_axes

__all__ = ["apply", "init", "logical_axes"]


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by Linen's own key derivation."""
    # No parameter depends on B, on T, or on how attention is computed.
    tokens = jnp.zeros((1, 1), jnp.int32)
    return Transformer(replace(config, attention="xla")).init(key, tokens, key)["params"]


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    logits = Transformer(config).apply({"params": params}, tokens, key)
    return cast(jax.Array, logits)
