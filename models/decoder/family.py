"""What the decoder says of itself to the harness; models/seam.py tells each option's meaning."""

from dataclasses import replace
from typing import TYPE_CHECKING

from models.decoder.config import ModelConfig
from models.shared.settings import attention_for

if TYPE_CHECKING:
    from flax import nnx

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
_NEEDS = {"splash": "tpu", "cudnn": "gpu"}  # attention -> the platform that has it


def quantization(config: ModelConfig) -> str:
    """The format of the layers' matmuls."""
    return config.quantization


def module(config: ModelConfig) -> "nnx.Module":
    """The model as NNX's own object."""
    from models.decoder import nnx as implementation

    return implementation.module(config)


def resolve(config: ModelConfig, platform: str, sequence_length: int) -> ModelConfig:
    """The config with the fastest attention that a platform has for these shapes, if "auto"."""
    if config.attention == "auto":
        return replace(config, attention=attention_for(platform, sequence_length, config.head_dim))
    needs = _NEEDS.get(config.attention, platform)
    if platform != needs:
        raise ValueError(f"attention={config.attention}: needs a {needs}, this is a {platform}")
    return config


def tflop_per_step(
    model: ModelConfig, sequence_length: int, per_device_batch: int
) -> tuple[float, float]:
    """The matrix products of one training step with causal attention, and attention's percentage.

    Each product is done once forward and twice backward. Norms, rotations, softmax and the
    optimizer are left out, as in every published MFU; of attention, the half below the diagonal.
    """
    tokens = per_device_batch * sequence_length
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    # Multiplications per token and layer: wi_0, wi_1, wo; query, key, value, out.
    layer = 3 * model.embed * model.mlp + model.embed * (2 * queries + 2 * keys)
    products = model.layers * layer + model.embed * model.vocab
    # Every position meets half of all positions on average, in scores and in values.
    attended = model.layers * 2 * queries * sequence_length / 2
    weights, attention = (3 * 2 * tokens * count for count in (products, attended))
    total = weights + attention
    return total / 1e12, 100 * attention / total
