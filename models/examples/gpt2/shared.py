"""What both GPT-2s share: attention, the logical axes, and the optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from models.decoder.sites import Site
from models.examples.gpt2.config import ModelConfig
from models.shared.ops import dropout, layer_keys

__all__ = ["attention", "dropout", "layer_keys", "logical_axes", "optimizer", "position_numbers"]

# The sites of random keys.
EMBEDDING_DROPOUT = Site.EMBEDDING_DROPOUT
ATTENTION_DROPOUT, MLP_DROPOUT = Site.OUT, Site.MLP_DROPOUT
embedding_initializer = jax.nn.initializers.normal(0.02)

_DENSE = {
    "qkv": ("embed", "q_heads"),
    "proj": ("heads", "embed"),
    "fc": ("embed", "mlp"),
    "out": ("mlp", "embed"),
}


def position_numbers(config: ModelConfig, length: int) -> jax.Array:
    """0 to T-1; ValueError where the model has no embedding for the last ones."""
    if length > config.positions:
        raise ValueError(f"sequences of {length} need model.positions={length}")
    return jnp.arange(length)


@jax.named_scope("attention")
def attention(qkv: jax.Array, heads: int) -> jax.Array:
    """Causal attention of query, key and value side by side [B, T, 3D]; returns [B, T, D]."""
    B, T, width = qkv.shape
    query, key, value = (
        part.reshape(B, T, heads, -1) for part in jnp.split(qkv, 3, axis=-1)
    )  # [B, T, N, H]
    mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    return mixed.reshape(B, T, width // 3)


def logical_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with a tuple of logical axis names in place of each array."""

    def dense(name: str) -> dict[str, Any]:
        axes = _DENSE[name]
        return {"kernel": axes, "bias": ("norm",) if axes[1] == "embed" else axes[1:]}

    norm = {"scale": ("norm",), "bias": ("norm",)}
    block = {
        "ln_1": norm,
        "attn": {"qkv": dense("qkv"), "proj": dense("proj")},
        "ln_2": norm,
        "mlp": {"fc": dense("fc"), "out": dense("out")},
    }
    return {
        "wte": {"embedding": ("vocab", "embed_vocab")},
        "wpe": {"embedding": ("position", "embed_vocab")},
        **{f"h_{layer}": block for layer in range(config.layers)},
        "ln_f": norm,
    }


def optimizer(settings: Any, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW that decays matrices alone, as is usual for a GPT-2: neither norms nor biases."""
    return optax.adamw(
        learning_rate,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
    )
