"""What the GPT says of itself to the harness; models/seam.py tells each option's meaning."""

from dataclasses import replace
from typing import TYPE_CHECKING

from models.gpt.config import CUT as pipeline
from models.gpt.config import ModelConfig
from models.shared import flops
from models.shared.settings import resolve_attention

if TYPE_CHECKING:
    from flax import nnx

__all__ = [
    "compute_dtype",
    "evaluated",
    "module",
    "parts",
    "pipeline",
    "resolve",
    "rules",
    "tflop_per_step",
]

rules = {
    "table_rows": ("stage", "tensor"),
    "stage": "stage",
    "qkv": None,
    "stream_position": "tensor",
}
# Part -> words of an operation's path: modules, named scopes, arrays, and JAX's own operations.
parts: dict[str, tuple[str, ...]] = {
    "attention": ("qkv", "out", "attention"),
    "mlp": ("wi", "wo", "gelu"),
    "norm": ("norm", "pre_attention_norm", "pre_mlp_norm", "final_norm"),
    "dropout": ("dropout",),
    "embedding": ("lookup", "token_embedder", "position_embedder"),
    "head": ("logits",),
}


def compute_dtype(config: ModelConfig) -> str:
    """The type of everything between the parameters and the logits."""
    return config.dtype


def module(config: ModelConfig) -> "nnx.Module":
    """The model as NNX's own object."""
    from models.gpt import nnx as implementation

    return implementation.module(config)


def resolve(config: ModelConfig, platform: str, sequence_length: int) -> ModelConfig:
    """The config with its positions, and with the fastest attention of a platform, if "auto"."""
    places = config.positions or sequence_length
    if places < sequence_length:
        raise ValueError(f"positions={places}: data.sequence_length={sequence_length} has more")
    if config.attention == "auto" and config.attention_dropout:
        config = replace(config, attention="xla")
    return resolve_attention(replace(config, positions=places), platform, sequence_length)


def evaluated(config: ModelConfig) -> ModelConfig:
    """The config without dropout and, as nothing goes backward, without anything computed again."""
    return replace(config, hidden_dropout=0.0, attention_dropout=0.0, remat="none")


def tflop_per_step(
    config: ModelConfig, sequence_length: int, per_device_batch: int
) -> tuple[float, float]:
    """The matrix products of a step, and attention's percentage; recomputing counts for nothing."""
    return flops.tflop_per_step(config, sequence_length, per_device_batch, matrices_of_mlp=2)
