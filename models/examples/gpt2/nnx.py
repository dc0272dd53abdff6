"""The GPT-2 in Flax NNX; models/examples/gpt2/linen.py says the same in Linen.

Linen puts the names of modules into the compiled program, NNX does not: what a preflight shall tell
apart is named here by jax.named_scope.
"""

from functools import cache

import jax
import jax.numpy as jnp
from flax import nnx

from models.examples.gpt2 import shared
from models.examples.gpt2.config import ModelConfig
from models.examples.gpt2.shared import logical_axes, optimizer
from models.seam import Params
from models.shared import ops, partitioning

__all__ = ["apply", "init", "logical_axes", "optimizer"]


class Attention(nnx.Module):
    """Causal self-attention."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        self.qkv = nnx.Linear(config.embed, 3 * config.embed, dtype=config.dtype, rngs=rngs)
        self.proj = nnx.Linear(config.embed, config.embed, dtype=config.dtype, rngs=rngs)

    @jax.named_scope("attn")
    def __call__(self, x: jax.Array) -> jax.Array:
        """Mixes the positions of x [B, T, D]."""
        return self.proj(shared.attention(self.qkv(x), self.config.heads))


class MLP(nnx.Module):
    """Two matmuls around a GELU."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.fc = nnx.Linear(config.embed, config.mlp, dtype=config.dtype, rngs=rngs)
        self.out = nnx.Linear(config.mlp, config.embed, dtype=config.dtype, rngs=rngs)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms each position of x [B, T, D]."""
        return self.out(nnx.gelu(self.fc(x)))


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and around a residual."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        epsilon = config.norm_epsilon
        self.ln_1 = nnx.LayerNorm(config.embed, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)
        self.attn = Attention(config, rngs)
        self.ln_2 = nnx.LayerNorm(config.embed, epsilon=epsilon, dtype=jnp.float32, rngs=rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """One step of the residual stream x [B, T, D]; `key` is the layer's."""
        rate = self.config.dropout_rate
        x = x + shared.dropout(self.attn(self.ln_1(x)), rate, key, shared.ATTENTION_DROPOUT)
        return x + shared.dropout(self.mlp(self.ln_2(x)), rate, key, shared.MLP_DROPOUT)


class Transformer(nnx.Module):
    """The GPT-2."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        initializer, dtype = shared.embedding_initializer, config.dtype
        self.wte = nnx.Embed(
            config.vocab, config.embed, dtype=dtype, embedding_init=initializer, rngs=rngs
        )
        self.wpe = nnx.Embed(
            config.positions, config.embed, dtype=dtype, embedding_init=initializer, rngs=rngs
        )
        for layer in range(config.layers):  # Linen names the modules of a list so
            setattr(self, f"h_{layer}", Block(config, rngs))
        self.ln_f = nnx.LayerNorm(
            config.embed, epsilon=config.norm_epsilon, dtype=jnp.float32, rngs=rngs
        )

    def __call__(self, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] of tokens [B, T]; `key` is this step's."""
        config = self.config
        layer_keys, outer_key = shared.layer_keys(key, config.layers)
        positions = shared.position_numbers(config, tokens.shape[1])
        x = self.wte(tokens) + self.wpe(positions)[None]  # [B, T, D]
        x = partitioning.constrain(x, ops.STREAM_AXES)
        x = shared.dropout(x, config.dropout_rate, outer_key, shared.EMBEDDING_DROPOUT)
        for layer, layer_key in enumerate(layer_keys):
            x = getattr(self, f"h_{layer}")(x, layer_key)
        with jax.named_scope("head"):
            return self.wte.attend(self.ln_f(x)).astype(jnp.float32)


def init(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters by NNX's own key derivation."""
    return nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(key)), nnx.Param))


def apply(config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's."""
    return nnx.merge(_graph(config), params)(tokens, key)


@cache
def _graph(config: ModelConfig) -> nnx.GraphDef[Transformer]:
    """The module's structure without arrays, made once and outside of any trace."""
    return nnx.graphdef(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))
