"""The two implementations are one model: the same names, tree, numbers and program."""

import ast
import inspect
import re
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models.decoder.linen
import models.decoder.nnx
from harness.cases import families
from models.decoder.config import SIZES, ModelConfig
from models.decoder.parameters import parameter_table
from models.seam import USUAL_NAMES

TINY = replace(ModelConfig(**SIZES["tiny"]), attention="xla")
CONFIGS = {
    "plain": TINY,
    "dropout": replace(TINY, dropout_rate=0.1),
    "int8": replace(TINY, quantization="int8"),
    "fp8": replace(TINY, quantization="fp8"),
    "float32": replace(TINY, dtype="float32", dropout_rate=0.1),
    "weights kept, unrolled": replace(TINY, remat="weights", unroll=True),
    "grouped kv heads, not rematerialised": replace(TINY, kv_heads=2, remat="none"),
}


def tokens(config: ModelConfig) -> jax.Array:
    return jax.random.randint(jax.random.key(7), (2, 16), 0, config.vocab)


def loss_and_gradients(impl: str, config: ModelConfig) -> Any:
    """The jitted function, and what it gives at the shared parameters."""
    implementation = families.load(None).get(impl)

    def loss(params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = implementation.apply(config, params, tokens(config), key)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 0]), logits

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def shared_parameters(config: ModelConfig) -> Any:
    return jax.jit(lambda: families.load(None).get("linen").init(config, jax.random.key(0)))()


def assert_bit_equal(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_logits_and_gradients_are_bit_equal_and_lower_to_one_text(config: ModelConfig) -> None:
    params, key = shared_parameters(config), jax.random.key(1)
    linen, nnx = (loss_and_gradients(impl, config) for impl in USUAL_NAMES)
    traced = linen.trace(params, key)
    assert traced.lower().as_text() == nnx.lower(params, key).as_text()
    assert (f"unroll={config.layers}" in str(traced.jaxpr)) == config.unroll
    assert_bit_equal(linen(params, key), nnx(params, key))


def test_layers_are_computed_again_where_the_config_says_so() -> None:
    shapes = jax.eval_shape(lambda: shared_parameters(TINY))

    def computes_again(remat: Literal["full", "weights", "none"]) -> bool:
        step = loss_and_gradients("linen", replace(TINY, remat=remat))
        traced = str(step.trace(shapes, jax.random.key(1)).jaxpr)
        return re.search(r"= (remat\w*|checkpoint)\[", traced) is not None

    assert (computes_again("full"), computes_again("weights")) == (True, True)
    assert not computes_again("none")


@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize("config", [ModelConfig(attention="xla"), TINY], ids=["full", "tiny"])
def test_parameters_are_those_of_the_table(impl: str, config: ModelConfig) -> None:
    shapes = jax.eval_shape(lambda: families.load(None).get(impl).init(config, jax.random.key(0)))
    expected = jax.tree.map(
        lambda parameter: jax.ShapeDtypeStruct(parameter.shape, jnp.float32),
        parameter_table(config),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    assert shapes == expected


@pytest.mark.parametrize("impl", USUAL_NAMES)
def test_native_initial_parameters_have_the_reference_distributions(impl: str) -> None:
    config = replace(TINY, embed=256, heads=8, kv_heads=8, head_dim=32, mlp=512, vocab=1024)
    params = jax.jit(lambda: families.load(None).get(impl).init(config, jax.random.key(0)))()
    layers = params["decoder"]["layers"]
    attention, mlp = layers["self_attention"], layers["mlp"]
    root = np.asarray(np.sqrt(32), jnp.bfloat16).astype(np.float64)
    deviations = [
        (params["token_embedder"]["embedding"], 1.0),
        (attention["query"]["kernel"], 256**-0.5 / root),
        (attention["key"]["kernel"], 256**-0.5),
        (attention["value"]["kernel"], 256**-0.5),
        (attention["out"]["kernel"], (8 * 32) ** -0.5),
        (mlp["wi_0"]["kernel"], 256**-0.5),
        (mlp["wi_1"]["kernel"], 256**-0.5),
        (mlp["wo"]["kernel"], 512**-0.5),
        (params["decoder"]["logits_dense"]["kernel"], 256**-0.5),
    ]
    for array, deviation in deviations:
        values = np.asarray(array, np.float64)
        assert values.std() == pytest.approx(deviation, rel=0.02)
        assert abs(values.mean()) < 5 * deviation / values.size**0.5
    truncated = np.asarray(mlp["wi_0"]["kernel"]) / 256**-0.5
    assert 2.2 < np.abs(truncated).max() < 2.3  # two deviations, widened to keep the variance
    assert np.abs(np.asarray(attention["key"]["kernel"])).max() * 256**0.5 > 3.5
    first, second = np.moveaxis(np.asarray(mlp["wo"]["kernel"]), 1, 0)
    assert not np.array_equal(first, second)
    assert (np.asarray(params["decoder"]["decoder_norm"]["scale"]) == 1).all()


def classes_and_attributes(module: Any, constructor: str) -> dict[str, list[str]]:
    """The attributes that each class of a module sets in its constructor, in order."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            (body,) = (
                part.body
                for part in node.body
                if isinstance(part, ast.FunctionDef) and part.name == constructor
            )
            targets = [line.targets[0] for line in body if isinstance(line, ast.Assign)]
            found[node.name] = [
                target.attr
                for target in targets
                if isinstance(target, ast.Attribute) and target.attr != "config"
            ]
    return found


def test_same_classes_and_attributes_in_the_same_order() -> None:
    left = classes_and_attributes(models.decoder.linen, "setup")
    right = classes_and_attributes(models.decoder.nnx, "__init__")
    assert list(left.items()) == list(right.items())
    assert all(left.values())


def test_causality() -> None:
    """A later token changes no earlier logits."""
    params, given = shared_parameters(TINY), tokens(TINY)
    changed = given.at[:, 9].set((given[:, 9] + 1) % TINY.vocab)
    apply = jax.jit(
        lambda t: families.load(None).get("nnx").apply(TINY, params, t, jax.random.key(0))
    )
    before, after = apply(given), apply(changed)
    assert_bit_equal(before[:, :9], after[:, :9])
    assert not np.array_equal(before[:, 9], after[:, 9])
