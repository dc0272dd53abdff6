"""The GPT's implementations are one model, and the one that Megatron-LM trains."""

import re
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal

import gpt_inputs as inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from models.cut import at, placed, staged, without
from models.gpt import SIZES, ModelConfig, functions, linen, nnx, resolve, tflop_per_step
from models.gpt.config import CUT
from models.gpt.functions import Site
from models.gpt.parameters import parameter_table
from models.seam import USUAL_NAMES
from models.shared import grouped, ops, partitioning
from models.shared.trees import named_leaves, nested

FULL = resolve(ModelConfig(), "cpu", 2048)
TINY = resolve(ModelConfig(**SIZES["tiny"]), "cpu", 32)
EXACT = replace(TINY, dtype="float32", hidden_dropout=0.0, attention_dropout=0.0)
BOTH: Any = dict(zip(USUAL_NAMES, (linen, nnx), strict=True))
CONFIGS = {
    "float16": TINY,
    "bfloat16, unrolled, all kept": replace(TINY, dtype="bfloat16", remat="none", unroll=True),
}


def parameters() -> Any:
    return nested(inputs.stacked())


@cache
def step(impl: str, config: ModelConfig) -> Any:
    """The jitted loss and gradients of one microbatch [2, 33]."""

    def loss(params: Any, tokens: jax.Array) -> jax.Array:
        logits = BOTH[impl].apply(config, params, tokens[:, :-1], jax.random.key(1))
        picked = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - picked)

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_both_lower_to_one_text(config: ModelConfig) -> None:
    one, other = (
        step(impl, config).trace(parameters(), inputs.tokens()[:2]) for impl in USUAL_NAMES
    )
    assert one.lower().as_text() == other.lower().as_text()
    traced = str(one.jaxpr)
    assert (f"unroll={config.layers}" in traced) == config.unroll
    assert bool(re.search(r"= (remat\w*|checkpoint)\[", traced)) == (config.remat != "none")


def test_every_operation_tells_its_part_of_the_model() -> None:
    lowered = step("linen", TINY).lower(parameters(), inputs.tokens()[:2])
    text = lowered.as_text(debug_info=True)
    scopes = ("norm", "dropout", "gelu", "attention", "lookup", "logits")
    assert not [scope for scope in scopes if f"/{scope}/" not in text]


def test_losses_and_gradients_are_megatrons() -> None:
    told = inputs.RUNS["float32"]
    sums = jax.tree.map(np.zeros_like, parameters())
    for microbatch, expected in enumerate(told["steps"][0]["microbatch_losses"]):
        tokens = inputs.tokens()[2 * microbatch : 2 * microbatch + 2]
        loss, gradients = step("nnx", EXACT)(parameters(), tokens)
        assert float(loss) == pytest.approx(expected, rel=5e-7)
        sums = jax.tree.map(lambda one, other: one + np.asarray(other) / 8, sums, gradients)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(sums)))
    assert norm == pytest.approx(told["steps"][0]["grad_norm"], rel=1e-5)
    found = named_leaves(sums)
    for path, expected in told["gradient_norms"].items():
        layer, _, name = path.removeprefix("decoder/layers/").partition("/")
        array = found[f"decoder/layers/{name}"][int(layer), 0] if layer.isdigit() else found[path]
        assert np.linalg.norm(array.ravel()) == pytest.approx(expected, rel=1e-5), path


@pytest.mark.parametrize("implementation", [linen, nnx], ids=USUAL_NAMES)
@pytest.mark.parametrize("config", [FULL, TINY], ids=["full", "tiny"])
def test_parameters_are_those_of_the_table(implementation: Any, config: ModelConfig) -> None:
    shapes = jax.eval_shape(lambda: implementation.init(config, jax.random.key(0)))
    expected = jax.tree.map(
        lambda parameter: jax.ShapeDtypeStruct(parameter.shape, jnp.float32),
        parameter_table(config),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    assert shapes == expected


def test_the_full_size_is_the_published_one() -> None:
    shapes = jax.eval_shape(lambda: linen.init(FULL, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 913_215_488
    tflop, attention_percent = tflop_per_step(FULL, 2048, 16)
    assert tflop == pytest.approx(191.83, abs=0.005)
    assert attention_percent == pytest.approx(6.9, abs=0.05)


@pytest.mark.parametrize("implementation", [linen, nnx], ids=USUAL_NAMES)
def test_fresh_parameters_have_megatrons_distributions(implementation: Any) -> None:
    made = jax.jit(lambda: implementation.init(TINY, jax.random.key(0)))()
    for path, array in named_leaves(made).items():
        np.testing.assert_array_equal(array, array.astype(jnp.float16))
        if path.endswith(("scale", "bias")):
            assert set(np.unique(array)) == {float(path.endswith("scale"))}
            continue
        spread = 0.006 / (4 if path.split("/")[-2] in ("out", "wo") else 1)
        assert np.asarray(array).std() == pytest.approx(spread, rel=0.05), path
        assert "layers" not in path or not np.array_equal(array[0], array[1])


@pytest.mark.parametrize("impl", USUAL_NAMES)
def test_the_pieces_are_the_model(impl: str) -> None:
    implementation, config = BOTH[impl], replace(TINY, layers=2, dtype="float32")
    key, tokens = jax.random.key(3), inputs.tokens()[:2, :-1]
    stack = jax.tree.map(lambda array: array[:2], at(parameters(), CUT.layers))
    params = staged(placed(parameters(), CUT.layers, stack), CUT, 2)

    def by_pieces(params: Any) -> jax.Array:
        first, second = (
            jax.tree.map(lambda array: array[0, stage], at(params, CUT.layers))  # noqa: B023
            for stage in (0, 1)
        )
        keys, outer_key = ops.layer_keys(key, 2)
        x = implementation.embed(config, without(params, CUT.layers), tokens, outer_key)
        x = implementation.layer(config, first, x, keys[0])
        x = implementation.layer(config, second, x, keys[1])
        x = implementation.norm(config, at(params, CUT.norm), x)
        return grouped.logits(x, at(params, CUT.table))

    whole = jax.jit(lambda params: implementation.apply(config, params, tokens, key))
    np.testing.assert_allclose(jax.jit(by_pieces)(params), whole(params), atol=3e-6)


def test_dropout_keeps_as_many_in_both_halves_and_depends_on_all_of_its_key() -> None:
    x, key = jnp.ones((4, 64, 101)), jax.random.key(0)
    kept = {
        (number, site): np.asarray(functions.dropout(x, 0.1, jax.random.fold_in(key, number), site))
        for number in (0, 1)
        for site in Site
    }
    for one in kept.values():
        assert set(np.unique(one)) == {0, np.float32(1 / 0.9)}
        for half in (one[..., :50], one[..., 50:]):
            assert (half > 0).mean() == pytest.approx(0.9, abs=0.01)
        assert np.corrcoef(one[..., :50].ravel(), one[..., 51:].ravel())[0, 1] < 0.02
    first, *others = kept.values()
    assert all((first > 0)[(other > 0)].mean() < 0.95 for other in others)


def test_what_the_compiler_must_not_reorder_is_fenced() -> None:
    x, kernel, bias = jnp.ones((2, 8, 4)), jnp.ones((4, 2, 3, 2)), jnp.ones((2, 3, 2))
    dropping = jax.make_jaxpr(lambda x: functions.dropout(x, 0.5, jax.random.key(0), Site(0)))(x)
    for traced in (dropping, jax.make_jaxpr(functions.heads)(x, kernel, bias)):
        assert str(traced).count("optimization_barrier") == 1


def test_no_gradient_of_gelu_overflows_in_float16() -> None:
    x = jnp.asarray([-300, -1, 0, 1, 300], jnp.float16)
    slope = jax.grad(lambda x: functions.gelu(x).astype(jnp.float32).sum())(x)
    np.testing.assert_allclose(slope, [0, -0.0833, 0.5, 1.0833, 1], atol=1e-3)


def test_no_position_sees_a_later_one() -> None:
    qkv = jax.random.normal(jax.random.key(0), (1, 8, 4, 3, 16))
    moved = qkv.at[:, 4].add(1)
    before, after = (functions.attention(one, EXACT, jax.random.key(0)) for one in (qkv, moved))
    differing = np.any(np.asarray(before != after), axis=(0, 2, 3))
    assert np.flatnonzero(differing).tolist() == [4, 5, 6, 7]
    np.testing.assert_allclose(before[:, 0], qkv[:, 0, :, 2], rtol=1e-6)


def test_heads_and_positions_are_divided_as_the_rules_say() -> None:
    mesh = jax.make_mesh((2,), ("tensor",), (AxisType.Auto,))
    names = ("batch", "position", "heads", "kv", "stream_position", "activation_embed")
    rules = {**dict.fromkeys(names), "heads": "tensor", "stream_position": "tensor"}

    def held(compute: Any, given: jax.Array) -> list[PartitionSpec]:
        with jax.set_mesh(mesh), partitioning.axis_rules(rules):
            traced = jax.make_jaxpr(compute)(given)
        constraints = [one for one in traced.eqns if one.primitive.name == "sharding_constraint"]
        return [one.params["sharding"].spec for one in constraints]

    qkv, key = jnp.ones((2, 8, 4, 3, 16)), jax.random.key(0)
    of_heads = PartitionSpec(None, None, "tensor", None)
    mixed = held(lambda qkv: functions.attention(qkv, EXACT, key), qkv)
    assert mixed == [of_heads] * 4  # queries, keys, values, and what they make
    words, places, tokens = jnp.ones((9, 4)), jnp.ones((8, 4)), jnp.ones((2, 8), jnp.int32)
    embedded = held(lambda one: functions.embed(EXACT, one, places, tokens, key), words)
    of_stream = PartitionSpec(None, "tensor", None)
    assert embedded == [of_stream]
    params = jax.tree.map(lambda array: array[0, 0], at(parameters(), CUT.layers))
    for one in BOTH.values():
        layer = partial(one.layer, EXACT, params, key=key)
        assert held(layer, jnp.ones((2, 8, EXACT.embed))).count(of_stream) == 2


def test_positions_are_as_many_as_the_sequence_is_long_or_more() -> None:
    assert resolve(ModelConfig(), "cpu", 8).positions == 8
    assert resolve(ModelConfig(positions=9), "cpu", 8).positions == 9
    with pytest.raises(ValueError, match=r"positions=7: data\.sequence_length=8 has more"):
        resolve(ModelConfig(positions=7), "cpu", 8)
    with pytest.raises(ValueError, match="not known without the sequence length"):
        linen.init(ModelConfig(), jax.random.key(0))


@pytest.mark.parametrize("kernel", ["splash", "cudnn"])
def test_a_kernel_is_given_what_makes_it_the_plain_attention(
    kernel: Literal["splash", "cudnn"], monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = jax.nn.dot_product_attention
    monkeypatch.setattr(ops, "splash_attention", lambda q, k, v: ops.attention(q, k, v, "xla"))
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda *given, **options: plainly(*given, **(options | {"implementation": "xla"})),
    )
    qkv = jax.random.normal(jax.random.key(0), (2, 8, 4, 3, TINY.head_dim))
    plain, by_kernel = (
        functions.attention(qkv, replace(EXACT, attention=one), jax.random.key(1))
        for one in ("xla", kernel)
    )
    np.testing.assert_allclose(by_kernel, plain, atol=2e-6)


def test_a_kernel_is_taken_only_where_attention_drops_nothing() -> None:
    assert resolve(ModelConfig(), "gpu", 2048).attention == "xla"
    assert resolve(ModelConfig(attention_dropout=0.0), "gpu", 2048).attention == "cudnn"
    with pytest.raises(ValueError, match="attention='splash': a kernel drops nothing"):
        ModelConfig(attention="splash")
