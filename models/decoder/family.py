"""What the decoder says of itself to the harness; models/seam.py tells each option's meaning."""

from dataclasses import replace
from typing import TYPE_CHECKING

from models.decoder.config import ModelConfig
from models.shared.flops import tflop_per_step
from models.shared.settings import resolve_attention

if TYPE_CHECKING:
    from flax import nnx

__all__ = [
    "evaluated",
    "module",
    "parts",
    "quantization",
    "quantized",
    "resolve",
    "tflop_per_step",
]

quantized = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
# Part -> words of an operation's path: modules, named scopes, arrays, and JAX's own operations.
parts: dict[str, tuple[str, ...]] = {
    "attention": ("query", "key", "value", "out", "rope", "attention"),
    "mlp": ("wi_0", "wi_1", "wo"),
    "norm": ("norm", "scale"),
    "dropout": ("dropout",),
    "embedding": ("embedding", "gather", "scatter-add"),
    "head": ("logits", "logits_dense"),
}


def quantization(config: ModelConfig) -> str:
    """The format of the layers' matmuls."""
    return config.quantization


def module(config: ModelConfig) -> "nnx.Module":
    """The model as NNX's own object."""
    from models.decoder import nnx as implementation

    return implementation.module(config)


def resolve(config: ModelConfig, platform: str, sequence_length: int) -> ModelConfig:
    """The config with the fastest attention that a platform has for these shapes, if "auto"."""
    return resolve_attention(config, platform, sequence_length)


def evaluated(config: ModelConfig) -> ModelConfig:
    """The config without dropout and, as nothing goes backward, without anything computed again."""
    return replace(config, dropout_rate=0.0, remat="none")
