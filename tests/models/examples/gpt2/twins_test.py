"""The example GPT-2: one tree and one model in both frameworks, and the one of the formulas."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_gpt2
import plain_training
import pytest

from harness import hlo
from harness.cases import families, reading
from harness.training import checking, train_step
from harness.training.parallel import mesh
from models.examples.gpt2 import ModelConfig, shared, tflop_per_step

GPT2 = "models.examples.gpt2"
IMPLEMENTATIONS = ("linen", "nnx")
SMALL = ModelConfig(embed=8, layers=2, heads=2, mlp=12, vocab=16, positions=9, norm_epsilon=1e-2)
PARAMS = plain_gpt2.parameters(embed=8, layers=2, mlp=12, vocab=16, positions=9)
KEY = jax.random.key(3)
TOKENS = jnp.asarray(np.random.default_rng(4).integers(0, 16, (2, 7)), jnp.int32)


def plain(params: Any = PARAMS, **options: Any) -> jax.Array:
    return plain_gpt2.logits(params, TOKENS, KEY, heads=2, epsilon=1e-2, **options)


def loss(logits: jax.Array) -> jax.Array:
    return plain_training.loss(logits, jnp.roll(TOKENS, -1, axis=1))


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_the_seam_has_no_fault(size: str) -> None:
    assert checking.faults(reading.load("03_dropout", size, twins=GPT2)) == []


def test_both_are_the_formulas_and_bit_equal() -> None:
    config = replace(SMALL, dropout_rate=0.3)

    def differentiated(compute: Callable[[Any], jax.Array]) -> Any:
        def of(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = compute(params)
            return loss(logits), logits

        return jax.jit(jax.value_and_grad(of, has_aux=True))(PARAMS)

    def applied(name: str, params: Any) -> jax.Array:
        return families.load(GPT2).get(name).apply(config, params, TOKENS, KEY)

    found = [differentiated(partial(applied, name)) for name in IMPLEMENTATIONS]
    jax.tree.map(np.testing.assert_array_equal, *found)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        found[0],
        differentiated(lambda params: plain(params, rate=0.3)),
    )


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("site", plain_gpt2.SITES)
def test_dropout_acts_at_each_site_alone(
    name: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_site, one = shared.dropout, plain_gpt2.SITES[site]

    def at_one_site(x: jax.Array, rate: float, key: jax.Array, here: int) -> jax.Array:
        return every_site(x, rate, key, here) if here == one else x

    monkeypatch.setattr(shared, "dropout", at_one_site)
    apply, config = families.load(GPT2).get(name).apply, replace(SMALL, dropout_rate=0.3)
    found = jax.jit(lambda params: apply(config, params, TOKENS, KEY))(PARAMS)
    np.testing.assert_allclose(found, plain(rate=0.3, sites={site}), rtol=2e-5, atol=2e-5)
    assert not np.allclose(found, plain(), atol=1e-2)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_fresh_parameters_are_gpt2s(name: str) -> None:
    """Embeddings of 0.02, kernels by their fan-in, no bias yet; a tree as the formulas have it."""
    config = ModelConfig(embed=128, layers=2, heads=2, mlp=256, vocab=512, positions=128)
    init = families.load(GPT2).get(name).init
    params: Any = jax.jit(lambda key: init(config, key))(KEY)
    shapes = jax.tree.map(jnp.shape, plain_gpt2.parameters(128, 2, 256, 512, 128))
    assert jax.tree.map(jnp.shape, params) == shapes
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    for table in ("wte", "wpe"):
        assert np.std(params[table]["embedding"]) == pytest.approx(0.02, rel=0.05)
    block = params["h_1"]
    for dense in (*block["attn"].values(), *block["mlp"].values()):
        width = dense["kernel"].shape[0]
        assert np.std(dense["kernel"]) == pytest.approx(width**-0.5, rel=0.05)
        assert not dense["bias"].any()
    assert (block["ln_1"]["scale"] == 1).all()
    kernels = [params[f"h_{layer}"]["mlp"]["fc"]["kernel"] for layer in (0, 1)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_bfloat16_is_that_of_the_matmuls_and_not_of_the_norms(name: str) -> None:
    apply, config = families.load(GPT2).get(name).apply, replace(SMALL, dtype="bfloat16")
    lowered = jax.jit(lambda params: apply(config, params, TOKENS, KEY)).lower(PARAMS)
    text = lowered.as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert all("xf32>, tensor" not in line for line in products), products
    assert not any("rsqrt" in line and "bf16" in line for line in text.splitlines())
    found = lowered.compile()(PARAMS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, plain(), atol=0.3)


def test_the_batch_stays_split_over_the_devices() -> None:
    """Each multiplies its share, of which the formula leaves out the upper half of attention."""
    case = reading.load("03_dropout", "tiny", ["model.layers=1"], twins=GPT2)
    tflop, attention_percent = tflop_per_step(case.model, case.data.sequence_length, 1)
    for name in IMPLEMENTATIONS:
        trainer = train_step.make_trainer(case, name, mesh.make(case, jax.devices()))
        compiled = train_step.compile_step(train_step.trace_step(trainer).lower(), trainer)
        multiplied = sum(one.flops for one in hlo.matmuls(hlo.parse(hlo.text(compiled)))) / 1e12
        assert multiplied == pytest.approx(tflop * (1 + attention_percent / 100))


def test_both_tell_the_parts_of_the_model_in_the_program() -> None:
    for name in IMPLEMENTATIONS:
        apply = families.load(GPT2).get(name).apply
        config = replace(SMALL, dropout_rate=0.3)
        lowered = jax.jit(lambda params, a=apply, c=config: a(c, params, TOKENS, KEY)).lower(PARAMS)
        text = lowered.as_text(debug_info=True)
        for part in ("attn", "mlp", "dropout", "attention", "head" if name == "nnx" else "wte"):
            assert f"/{part}/" in text or f"{part}." in text, (name, part)
