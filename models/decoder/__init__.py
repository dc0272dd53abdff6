"""The decoder of 1.1 billion parameters, in Flax Linen and in Flax NNX."""

from models.decoder.config import SIZES, ModelConfig
from models.decoder.family import (
    evaluated,
    module,
    parts,
    quantization,
    quantized,
    resolve,
    tflop_per_step,
)

__all__ = [
    "SIZES",
    "ModelConfig",
    "evaluated",
    "linen",
    "module",
    "nnx",
    "parameters",
    "parts",
    "quantization",
    "quantized",
    "resolve",
    "sites",
    "tflop_per_step",
]
