"""The Honeycrisp's implementations are one model, and the one that AXLearn trains."""

import hashlib
import re
from dataclasses import replace
from functools import cache, partial
from typing import Any

import honeycrisp_inputs as inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.cases import families
from models.honeycrisp import SIZES, ModelConfig, derived, keeping, linen, nnx, tflop_per_step
from models.honeycrisp.parameters import parameter_table
from models.seam import USUAL_NAMES
from models.shared import grouped, ops
from models.shared.losses import live_cross_entropy
from models.shared.trees import named_leaves, nested

FULL = ModelConfig()
TINY = ModelConfig(**{key: size for key, size in SIZES["tiny"].items() if "." not in key})
FIGURES = inputs.FIGURES
# The implementation, the factor of the squared normaliser, the kind of batch, the dtype. Both lower
# to one text: what one computes, the other does.
VARIANTS = {
    "float32/masked": ("linen", 0.01, "masked", "float32"),
    "float32/packed": ("nnx", 1e-6, "packed", "float32"),
    "bfloat16/zloss": ("nnx", 0.01, "plain", "bfloat16"),
}
FRESH = replace(TINY, embed=128, heads=6, head_dim=32, mlp=256, vocab=512)


def parameters() -> Any:
    return nested(inputs.parameters())


@cache
def step(impl: str, config: ModelConfig) -> Any:
    """The jitted loss with its metrics, and gradients."""
    implementation: Any = families.load(None, "honeycrisp").get(impl)

    def loss(params: Any, batch: Any) -> Any:
        outcome = implementation.loss(config, params, None, batch, None)
        return outcome.loss, outcome.metrics

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@cache
def fresh(implementation: Any) -> Any:
    """Fresh parameters."""
    return jax.jit(lambda: implementation.init(FRESH, jax.random.key(0)))()


CONFIGS = {
    "bfloat16": replace(TINY, z_loss=0.01),
    "float32, unrolled, all kept": replace(TINY, dtype="float32", remat="none", unroll=True),
    "dots kept": replace(TINY, remat="dots"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_both_lower_to_one_text(config: ModelConfig) -> None:
    kind = "packed" if config.remat == "dots" else "plain"
    one, other = (
        step(impl, config).trace(parameters(), inputs.batch(kind)) for impl in USUAL_NAMES
    )
    assert one.lower().as_text() == other.lower().as_text()
    assert (f"unroll={config.layers}" in str(one.jaxpr)) == config.unroll


def test_each_choice_of_what_is_computed_again_is_a_program_of_its_own() -> None:
    choices: tuple[Any, ...] = ("full", "projections", "dots", "none")
    configs = [replace(TINY, remat=remat) for remat in choices]
    traced = [step("linen", one).trace(parameters(), inputs.batch()) for one in configs]
    programs = {re.sub(r"policy=[^\n]*|0x\w+", "", str(one.jaxpr)) for one in traced}
    assert len(programs) == len(choices)


def test_every_operation_tells_its_part_of_the_model() -> None:
    lowered = step("linen", CONFIGS["bfloat16"]).lower(parameters(), inputs.batch("plain"))
    text = lowered.as_text(debug_info=True)
    scopes = ("output_norm/norm", "rope", "attention/attention", "lookup", "logits", "jvp(loss)")
    assert not [scope for scope in scopes if f"{scope}/" not in text]


def test_whatever_is_kept_by_its_name_has_that_name() -> None:
    config = CONFIGS["bfloat16"]
    traced = str(step("linen", config).trace(parameters(), inputs.batch("plain")).jaxpr)
    names = {keeping.QUERY, keeping.KEY, keeping.VALUE, grouped.CONTEXT, keeping.OUT}
    assert {*re.findall(r"name\[name=(\w+)", traced)} == names


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients_are_axlearns(variant: str) -> None:
    impl, z_loss, kind, dtype = VARIANTS[variant]
    told = FIGURES[variant]
    config = replace(TINY, dtype=dtype, z_loss=z_loss)  # type: ignore[arg-type]
    (loss, metrics), gradients = step(impl, config)(parameters(), inputs.batch(kind))
    exact = dtype == "float32"
    assert float(loss) == pytest.approx(told["loss"], abs=1e-6 if exact else 1.5e-6)
    assert float(metrics["z_loss"]) == pytest.approx(told["z_loss"], rel=1e-6)
    perplexity = derived({"loss": loss})["perplexity"]
    assert float(perplexity) == pytest.approx(told["perplexity"], rel=2e-6)
    assert float(metrics["accuracy"]) == pytest.approx(told["accuracy"], abs=1e-7)
    assert metrics["live_targets"] == metrics["total_weights"] == told["live_targets"]
    squares = sum(inputs.sums(leaf)[1] ** 2 for leaf in jax.tree.leaves(gradients))
    # In bfloat16 JAX 0.12 sums in yet another order than 0.10 does: 6.3e-4.
    assert squares**0.5 == pytest.approx(told["grad_norm"], rel=1e-6 if exact else 8e-4)
    for path, (_, norm) in told["gradients"].items():
        found = inputs.sums(named_leaves(gradients)[path])[1]
        assert found == pytest.approx(norm, rel=1.3e-6 if exact else 8e-3), path


def test_what_cannot_be_learned_costs_nothing() -> None:
    """Padding, also where there is nothing else, and targets beyond the vocabulary."""
    logits = jax.random.normal(jax.random.key(0), (1, 3, 4))
    compute = jax.jit(lambda targets: live_cross_entropy(logits, targets, 0.0))
    for targets in ([0, 0, 0], [4, 0, 9]):
        loss, metrics = compute(jnp.asarray([targets], jnp.int32))
        assert loss == 0
        assert metrics["total_weights"] == sum(target > 0 for target in targets)


def test_bfloat16_logits_are_axlearns_bit_for_bit() -> None:
    logits = jax.jit(lambda p, t: nnx.apply(TINY, p, t, jax.random.key(0)))(
        parameters(), inputs.batch()["inputs"]
    )
    bits = np.asarray(logits.astype(jnp.bfloat16)).tobytes()
    assert hashlib.sha256(bits).hexdigest() == FIGURES["bfloat16/plain"]["logits_sha256"]


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
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 2_737_739_264
    tflop, attention_percent = tflop_per_step(FULL, 4096, 1)
    assert tflop * 1e3 / 4096 == pytest.approx(18.3884, abs=1e-4)
    assert tflop * attention_percent * 10 / 4096 == pytest.approx(1.9629, abs=1e-4)


@pytest.mark.parametrize("implementation", [linen, nnx], ids=USUAL_NAMES)
def test_fresh_parameters_have_axlearns_distributions(implementation: Any) -> None:
    for path, array in named_leaves(fresh(implementation)).items():
        values = np.asarray(array, np.float64)
        if path.endswith("scale"):
            assert (values == 1).all()
            continue
        fan = {"linear2": 256, "o_proj": 6 * 32}.get(path.split("/")[-2], 128)
        assert values.std() * fan**0.5 == pytest.approx(1, abs=0.02), path
        assert np.abs(values).max() * fan**0.5 > 3  # not truncated
        assert path.startswith("decoder/emb") or not np.array_equal(*values)


def test_a_fresh_loss_is_that_of_logits_of_spread_one() -> None:
    config = replace(FRESH, dtype="float32")
    loss = jax.jit(lambda params, batch: nnx.loss(config, params, None, batch, jax.random.key(0)))
    assert float(loss(fresh(nnx), inputs.batch()).loss) == pytest.approx(np.log(512) + 0.5, abs=0.3)


def test_no_position_sees_a_later_one_or_another_document() -> None:
    query = jax.random.normal(jax.random.key(0), (1, 8, 4, 16))
    key, value = query[:, :, :2], query[:, :, 2:]
    segments = jnp.array([[3, 3, 3, 0, 0, 0, 0, 7]])
    attend = jax.jit(partial(grouped.attention, implementation="xla"))
    moved = value.at[:, 4].add(1)
    for told, seeing in ((None, [4, 5, 6, 7]), (segments, [4, 5, 6])):
        before, after = attend(query, key, value, told), attend(query, key, moved, told)
        differing = np.any(np.asarray(before != after), axis=(0, 2, 3))
        assert np.flatnonzero(differing).tolist() == seeing
    np.testing.assert_allclose(attend(query, key, value, segments)[0, 3, 3], value[0, 3, 1])


def test_the_flash_kernel_is_the_plain_attention() -> None:
    shape = (1, 128, 4, 128)
    query, key, value = (jax.random.normal(jax.random.key(k), shape) * 0.1 for k in range(3))
    key, value = key[:, :, :2], value[:, :, :2]
    segments = jnp.arange(128)[None] // 48
    plain = grouped.attention(query, key, value, segments, "xla")
    kernel = ops.splash_attention(query, key, value, segments, interpret=True)
    np.testing.assert_allclose(kernel, plain, atol=2e-6)


@pytest.mark.parametrize("kernel", ["splash", "cudnn"])
@pytest.mark.parametrize("segments", [None, jnp.arange(8)[None] // 3], ids=["whole", "packed"])
def test_a_kernel_is_given_what_makes_it_the_plain_attention(
    kernel: str, segments: jax.Array | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly, kept_as = jax.nn.dot_product_attention, []

    def splash(*tensors: jax.Array, saved_as: str) -> jax.Array:
        kept_as.append(saved_as)
        return grouped._plain(*tensors)

    def cudnn(*tensors: jax.Array, implementation: str, **options: Any) -> jax.Array:
        return plainly(*tensors, implementation="xla", **options)

    monkeypatch.setattr(ops, "splash_attention", splash)
    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
    query = jax.random.normal(jax.random.key(0), (1, 8, 4, 16))
    operands = query, query[:, :, :2], query[:, :, 2:], segments
    by_kernel = grouped.attention(*operands, kernel)
    np.testing.assert_allclose(by_kernel, grouped.attention(*operands, "xla"), atol=2e-6)
    assert kept_as == ([grouped.CONTEXT] if kernel == "splash" else [])
