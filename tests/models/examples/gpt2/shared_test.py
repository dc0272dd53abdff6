from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plain_gpt2
import pytest
from plain_training import AdamW

from models.examples.gpt2 import ModelConfig, shared

SMALL = ModelConfig(embed=8, layers=2, heads=2, mlp=12, vocab=16, positions=9)


def test_positions_count_from_zero_to_the_last_that_has_an_embedding() -> None:
    np.testing.assert_array_equal(shared.position_numbers(SMALL, 9), np.arange(9))
    with pytest.raises(ValueError, match=r"^sequences of 10 need model.positions=10$"):
        shared.position_numbers(SMALL, 10)


def test_every_parameter_has_an_axis_name_for_each_of_its_axes() -> None:
    shapes = jax.tree.map(jnp.shape, plain_gpt2.parameters(8, 2, 12, 16, 9))
    is_axes = {"is_leaf": lambda leaf: isinstance(leaf, tuple)}
    axes = jax.tree.map(lambda names: len(names), shared.logical_axes(SMALL), **is_axes)
    assert axes == jax.tree.map(len, shapes, **is_axes)
    block: Any = shared.logical_axes(SMALL)["h_1"]
    assert block["attn"]["qkv"] == {"kernel": ("embed", "q_heads"), "bias": ("q_heads",)}
    assert block["attn"]["proj"] == {"kernel": ("heads", "embed"), "bias": ("norm",)}
    assert block["mlp"]["fc"] == {"kernel": ("embed", "mlp"), "bias": ("mlp",)}
    assert block["mlp"]["out"] == {"kernel": ("mlp", "embed"), "bias": ("norm",)}
    assert block["ln_1"] == block["ln_2"] == {"scale": ("norm",), "bias": ("norm",)}
    whole = shared.logical_axes(SMALL)
    assert whole["wte"] == {"embedding": ("vocab", "embed_vocab")}
    assert whole["wpe"] == {"embedding": ("position", "embed_vocab")}
    assert whole["ln_f"] == block["ln_1"]


def test_attention_tells_its_part_of_the_model() -> None:
    lowered = jax.jit(lambda: shared.attention(jnp.ones((1, 2, 12)), 2)).lower()
    assert "/attention/" in lowered.as_text(debug_info=True)


def test_matrices_decay_and_vectors_do_not() -> None:
    settings = SimpleNamespace(b1=0.5, b2=0.75, epsilon=1e-3, weight_decay=0.25)
    optimizer = shared.optimizer(settings, lambda step: jnp.float32(0.1))
    decaying, still = (AdamW(0.5, 0.75, 1e-3, decay, clip_norm=np.inf) for decay in (0.25, 0.0))
    generator = np.random.default_rng(0)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    state = optimizer.init(params)
    for _ in range(3):
        gradients = {
            name: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32)
            for name, leaf in params.items()
        }
        kernel, _ = decaying.update(params["kernel"], gradients["kernel"], 0.1)
        bias, _ = still.update(params["bias"], gradients["bias"], 0.1)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(params["bias"], bias, rtol=1e-5)
