"""AXLearn's Honeycrisp of 2.7 billion parameters, in Flax Linen and in Flax NNX."""

from models.honeycrisp.config import SIZES, ModelConfig
from models.honeycrisp.family import (
    counts,
    derived,
    evaluated,
    metrics,
    module,
    packed,
    parts,
    resolve,
    rules,
    tflop_per_step,
)

__all__ = [
    "SIZES",
    "ModelConfig",
    "counts",
    "derived",
    "evaluated",
    "linen",
    "metrics",
    "module",
    "nnx",
    "packed",
    "parameters",
    "parts",
    "resolve",
    "rules",
    "tflop_per_step",
]
