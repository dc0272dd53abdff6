"""A model of a few lines that a pipeline can cut, and the same without a pipeline."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.cut import Cut, Params, at
from models.shared import grouped, ops, partitioning

CUT = Cut(layers=("layers",), norm=("norm",), table=("table",))
LAYERS, EMBED, WIDTH, VOCAB, LENGTH = 16, 8, 16, 24, 4
RULES = {
    "batch": ("data", "fsdp"),
    "repeats": None,
    "stage": "stage",
    "embed": None,
    "mlp": "tensor",
}
AXES = {
    "table": ("stage", "embed"),
    "layers": {
        "wi": ("repeats", "stage", "embed", "mlp"),
        "wo": ("repeats", "stage", "mlp", "embed"),
    },
    "norm": {"scale": ("embed",)},
}


def drop(x: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0)


def embed(config: Any, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
    return drop(grouped.lookup(params["table"], tokens), key)


def layer(config: Any, params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
    hidden = jnp.tanh(jnp.einsum("btd,df->btf", x, params["wi"]))
    hidden = partitioning.constrain(hidden, ("batch", "embed", "mlp"))
    return x + drop(jnp.einsum("btf,fd->btd", hidden, params["wo"]), key)


def norm(config: Any, params: Params, x: jax.Array) -> jax.Array:
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(square + 1e-6) * params["scale"][None, None]


PIECES = SimpleNamespace(embed=embed, layer=layer, norm=norm)


def params(stages: int) -> dict[str, Any]:
    """The same layers in their order, stacked for so many stages."""
    rng = np.random.default_rng(3)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, 0.1, shape), jnp.float32)

    stack = LAYERS // stages, stages
    return {
        "table": draw(VOCAB, EMBED),
        "layers": {
            "wi": draw(LAYERS, EMBED, WIDTH).reshape(*stack, EMBED, WIDTH),
            "wo": draw(LAYERS, WIDTH, EMBED).reshape(*stack, WIDTH, EMBED),
        },
        "norm": {"scale": 1 + draw(EMBED)},
    }


def batch(microbatches: int) -> dict[str, jax.Array]:
    """The same sequences, divided into so many microbatches."""
    shape = microbatches, 16 // microbatches, LENGTH + 1
    tokens = np.random.default_rng(5).integers(0, VOCAB, shape, np.int32)
    return {"inputs": jnp.asarray(tokens[..., :-1]), "targets": jnp.asarray(tokens[..., 1:])}


def plain_loss(params: Params, batch: Any, key: jax.Array) -> jax.Array:
    """The mean loss over microbatches, one after the other."""
    layers = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), at(params, CUT.layers))

    def loss(part: tuple[jax.Array, Any]) -> jax.Array:
        number, mine = part
        keys, outside = ops.layer_keys(jax.random.fold_in(key, number), LAYERS)
        x, _ = jax.lax.scan(
            lambda x, one: (layer(None, one[0], x, one[1]), None),
            embed(None, params, mine["inputs"], outside),
            (layers, keys),
        )
        logits = grouped.logits(norm(None, at(params, CUT.norm), x), params["table"])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), mine["targets"][..., None], -1)
        return -jnp.mean(chosen)

    numbers = jnp.arange(len(batch["inputs"]), dtype=jnp.uint32)
    return jnp.mean(jax.lax.map(loss, (numbers, batch)))
