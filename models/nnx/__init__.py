"""The decoder in Flax NNX, behind the seam that models/__init__.py describes."""

from functools import cache

import jax
from flax import nnx

from models.config import ModelConfig
from models.nnx.decoder import Transformer
from models.parameters import Params, logical_axes

__all__ = ["apply", "init", "logical_axes"]


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by NNX's own key derivation."""
    return nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(key)), nnx.Param))


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    return nnx.merge(_graph(config), params)(tokens, key)


@cache
def _graph(config: ModelConfig) -> nnx.GraphDef[Transformer]:
    """The module's structure without arrays, made once and outside of any trace."""
    module = nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0)))
    other = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))
    if other:
        raise TypeError(f"state other than parameters: {other}")
    return nnx.graphdef(module)
