"""Megatron-LM's GPT of 0.9 billion parameters, in Flax Linen and in Flax NNX."""

from models.gpt.config import SIZES, ModelConfig
from models.gpt.family import (
    compute_dtype,
    evaluated,
    module,
    parts,
    pipeline,
    resolve,
    rules,
    tflop_per_step,
)

__all__ = [
    "SIZES",
    "ModelConfig",
    "compute_dtype",
    "evaluated",
    "linen",
    "module",
    "nnx",
    "parameters",
    "parts",
    "pipeline",
    "resolve",
    "rules",
    "tflop_per_step",
]
