"""A family in one file: a small GPT in Linen and in NNX, and what it says of itself."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
from flax import nnx

from models.seam import Batch

SIZES: dict[str, dict[str, Any]] = {"tiny": {"embed": 32, "heads": 2, "vocab": 64}}
parts = {"mixer": ("attend",), "channel": ("wide", "narrow"), "head": ("out",)}
metrics = ("accuracy",)
_AXES = {"table": ("vocab", "embed_vocab"), "wide": ("embed", "mlp"), "narrow": ("mlp", "embed")}


@dataclass(frozen=True)
class ModelConfig:
    """The size of a GPT-2 by default."""

    embed: int = 768
    heads: int = 12
    vocab: int = 50257


def loss(logits: jax.Array, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross entropy, and a metric beside it."""
    taken = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], -1)
    right = (logits.argmax(-1) == batch["targets"]).mean(dtype=jnp.float32)
    weights = jnp.float32(batch["targets"].size)
    return -taken.mean(), {"accuracy": right, "total_weights": weights}


def _forward(config: ModelConfig, layers: Any, tokens: jax.Array) -> jax.Array:
    x = layers.table(tokens)  # [B, T, D]
    with jax.named_scope("attend"):
        heads = x.reshape(*x.shape[:2], config.heads, -1)
        x = x + jax.nn.dot_product_attention(heads, heads, heads, is_causal=True).reshape(x.shape)
    x = x + layers.narrow(jax.nn.gelu(layers.wide(x)))
    with jax.named_scope("out"):
        return layers.table.attend(x)


class _Linen(flax.linen.Module):
    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.table = flax.linen.Embed(config.vocab, config.embed)
        self.wide = flax.linen.Dense(4 * config.embed, use_bias=False)
        self.narrow = flax.linen.Dense(config.embed, use_bias=False)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return _forward(self.config, self, tokens)


class _Nnx(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.table = nnx.Embed(config.vocab, config.embed, rngs=rngs)
        self.wide = nnx.Linear(config.embed, 4 * config.embed, use_bias=False, rngs=rngs)
        self.narrow = nnx.Linear(4 * config.embed, config.embed, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return _forward(self.config, self, tokens)


def _logical_axes(config: ModelConfig) -> dict[str, Any]:
    return {
        name: {"embedding" if name == "table" else "kernel": axes} for name, axes in _AXES.items()
    }


def _init_linen(config: ModelConfig, key: jax.Array) -> Any:
    return _Linen(config).init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def _apply_linen(config: ModelConfig, params: Any, tokens: jax.Array, key: jax.Array) -> Any:
    return _Linen(config).apply({"params": params}, tokens)


def _init_nnx(config: ModelConfig, key: jax.Array) -> Any:
    return nnx.to_pure_dict(nnx.state(_Nnx(config, nnx.Rngs(key)), nnx.Param))


def _apply_nnx(config: ModelConfig, params: Any, tokens: jax.Array, key: jax.Array) -> Any:
    graph = nnx.graphdef(nnx.eval_shape(lambda: _Nnx(config, nnx.Rngs(0))))
    return nnx.merge(graph, params)(tokens)


linen = SimpleNamespace(init=_init_linen, apply=_apply_linen, logical_axes=_logical_axes)
nnx_ = SimpleNamespace(init=_init_nnx, apply=_apply_nnx, logical_axes=_logical_axes)
IMPLEMENTATIONS = ("linen", "nnx_")
