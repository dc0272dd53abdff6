"""The decoder of 1.1 billion parameters, in Flax Linen and in Flax NNX."""

from models.decoder.config import SIZES, ModelConfig
from models.decoder.family import module, parts, quantization, quantized, resolve, tflop_per_step

__all__ = [
    "SIZES",
    "ModelConfig",
    "module",
    "parts",
    "quantization",
    "quantized",
    "resolve",
    "tflop_per_step",
]
