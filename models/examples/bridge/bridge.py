"""The Linen decoder as an NNX module, by flax's bridge."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models.decoder import ModelConfig
from models.decoder.linen import Transformer
from models.decoder.parameters import logical_axes
from models.seam import Params

__all__ = ["apply", "init", "logical_axes"]


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by the bridge's own key derivation."""
    return nnx.to_pure_dict(nnx.state(_initialised(config, key), nnx.Param))


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    logits: jax.Array = nnx.merge(_graph(config), params)(tokens, key)
    return logits


def _initialised(config: ModelConfig, key: jax.Array) -> Any:
    """The wrapped module with its parameters, which a sample input has to make."""
    # No parameter depends on B, on T, or on how attention is computed.
    module = nnx.bridge.ToNNX(Transformer(replace(config, attention="xla")), rngs=nnx.Rngs(key))
    nnx.bridge.lazy_init(module, jnp.zeros((1, 1), jnp.int32), key)
    module.to_nnx__module = Transformer(config)
    # The bridge keeps random state beside the parameters. Every key is given: none is needed.
    module.to_nnx__rngs = None
    return module


@cache
def _graph(config: ModelConfig) -> Any:
    """The module's structure without arrays, made once and outside of any trace."""
    return nnx.graphdef(nnx.eval_shape(lambda: _initialised(config, jax.random.key(0))))
