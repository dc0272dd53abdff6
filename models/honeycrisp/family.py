"""What the Honeycrisp says of itself to the harness; models/seam.py tells each option's meaning."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.honeycrisp.config import ModelConfig
from models.shared.flops import tflop_per_step
from models.shared.settings import resolve_attention

if TYPE_CHECKING:
    from flax import nnx

__all__ = [
    "counts",
    "derived",
    "evaluated",
    "metrics",
    "module",
    "packed",
    "parts",
    "resolve",
    "rules",
    "tflop_per_step",
]

metrics = ("z_loss", "accuracy", "perplexity", "live_targets")
counts = ("live_targets", "total_weights")
packed = True
# The table is cut along its rows, so that one gathered copy serves lookup and logits alike.
rules = {"table_rows": "fsdp", "table_columns": "tensor"}
# Part -> words of an operation's path: modules, named scopes, arrays, and JAX's own operations.
parts: dict[str, tuple[str, ...]] = {
    "attention": ("qkv_proj", "o_proj", "rope", "attention"),
    "mlp": ("linear1_0", "linear1_1", "linear2"),
    "norm": ("norm", "output_norm", "scale_query", "scale_key", "scale"),
    "embedding": ("lookup", "token_emb"),
    "head": ("logits",),
}


def derived(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The perplexity of a whole batch; over its parts, a mean of theirs would be larger."""
    import jax.numpy as jnp

    return {"perplexity": jnp.exp(metrics["loss"])}


def module(config: ModelConfig) -> "nnx.Module":
    """The model as NNX's own object."""
    from models.honeycrisp import nnx as implementation

    return implementation.module(config)


def resolve(config: ModelConfig, platform: str, sequence_length: int) -> ModelConfig:
    """The config with the fastest attention that a platform has for these shapes, if "auto"."""
    return resolve_attention(config, platform, sequence_length)


def evaluated(config: ModelConfig) -> ModelConfig:
    """The config in which nothing is computed again, as nothing goes backward."""
    return replace(config, remat="none")
