"""The project's Linen decoder, and the same carried over: `--twins models.examples.bridge`.

The lazy way to migrate: nothing is written anew, flax wraps the Linen module as an NNX one.
"""

from models.decoder import (
    SIZES,
    ModelConfig,
    evaluated,
    linen,
    parts,
    quantization,
    quantized,
    resolve,
    tflop_per_step,
)

__all__ = [
    "IMPLEMENTATIONS",
    "SIZES",
    "ModelConfig",
    "evaluated",
    "linen",
    "parts",
    "quantization",
    "quantized",
    "resolve",
    "tflop_per_step",
]

IMPLEMENTATIONS = ("linen", "bridge")
