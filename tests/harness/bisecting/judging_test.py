"""What is rounding and what is a fault, and how small a fault is still seen, in each format."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.bisecting import judging, parting
from harness.bisecting.capture import Trace, capture
from harness.bisecting.judging import Judged

D = 24  # heads of 12, whose scale is no power of two
EPSILON = 1e-6
RNG = np.random.default_rng(0)
SQUARE = dict.fromkeys(("q", "k", "v", "out"), (D, D))
SHAPES = {**SQUARE, "up": (D, 2 * D), "down": (2 * D, D)}
PARAMS = {
    name: jnp.asarray(RNG.standard_normal(shape) / shape[0] ** 0.5, jnp.float32)
    for name, shape in SHAPES.items()
} | {"scale": jnp.asarray(RNG.uniform(0.5, 1.5, D), jnp.float32)}
X = jnp.asarray(RNG.standard_normal((2, 9, D)), jnp.float32)


def quantized(x: jax.Array, form: str) -> jax.Array:
    """What int8 or fp8 keep of an operand."""
    if form == "fp8":
        return x.astype(jnp.float8_e4m3fn).astype(x.dtype)
    if form == "int8":
        step = jnp.max(jnp.abs(x)) / jnp.asarray(127, x.dtype)
        return jnp.round(x / step) * step
    return x


def norm(x: jax.Array, scale: jax.Array, epsilon: float, fast: bool, cast: bool) -> jax.Array:
    dtype = x.dtype
    x = x.astype(jnp.float32 if cast else dtype)
    mean = x.mean(-1, keepdims=True)
    if fast:
        variance = (x**2).mean(-1, keepdims=True) - mean**2
    else:
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    normal = (x - mean) * jax.lax.rsqrt(variance + jnp.asarray(epsilon, x.dtype))
    return normal.astype(dtype) * scale[None, None]


def model(
    form: str = "float32",
    fused: bool = False,
    fast: bool = False,
    late: bool = False,
    epsilon: float = EPSILON,
    factor: float = 1.0,
    cast: bool = True,
) -> Callable[..., Any]:
    """A layer of attention and its gradients.

    fused: one product for query, key and value. fast: another formula of the variance. late: scores
    are scaled after the product. epsilon, factor of that scale, cast: what may be wrong.
    """
    dtype = jnp.float32 if form == "float32" else jnp.bfloat16

    def loss(params: Any, x: jax.Array) -> jax.Array:
        params = {name: one.astype(dtype) for name, one in params.items()}
        h = norm(x.astype(dtype), params["scale"], epsilon, fast, cast)
        h = quantized(h, form)
        kernels = [quantized(params[name], form) for name in "qkv"]
        if fused:
            parts = jnp.split(h @ jnp.concatenate(kernels, 1), 3, -1)
        else:
            parts = [h @ kernel for kernel in kernels]
        query, key, value = (one.reshape(2, 9, 2, D // 2) for one in parts)
        size = factor * (D // 2) ** -0.5
        query = query if late else query * jnp.asarray(size, dtype)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        scores = scores / jnp.asarray(1 / size, dtype) if late else scores
        scores = scores.astype(jnp.float32) if cast else scores
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores).astype(dtype), value)
        y = x.astype(dtype) + mixed.reshape(2, 9, D) @ params["out"]
        y = y + jnp.tanh(y @ params["up"]) @ params["down"]
        return (y.astype(jnp.float32) ** 2).mean()

    def step(params: Any, x: jax.Array) -> dict[str, Any]:
        value, gradients = jax.value_and_grad(loss)(params, x)
        return {"loss": value, "gradients": gradients}

    return step


@cache
def right(form: str) -> Trace:
    return capture(model(form), PARAMS, X)


def judged(form: str, **changed: Any) -> list[Judged]:
    """What differs between the model and a changed one."""
    a, other = right(form), model(form, **changed)
    b = capture(other, PARAMS, X)
    runs = [
        lambda change, one=one: capture(one, PARAMS, X, change=change)
        for one in (model(form), other)
    ]
    return judging.judge(a, runs[0], runs[1], parting.partners(a, b))


FORMS = ["float32", "bfloat16", "int8", "fp8"]
SOUND = ["fused", "fast", "late"]
long = partial(pytest.param, marks=pytest.mark.bisect)


@pytest.mark.parametrize(
    ("form", "variant"),
    [
        ("float32", "fast"),
        ("bfloat16", "late"),
        *(long(form, variant) for form in FORMS for variant in SOUND),
    ],
)
def test_a_sound_variant_is_equal_up_to_rounding(form: str, variant: str) -> None:
    found = judged(form, **{variant: True})
    assert found
    assert all(one.is_rounding for one in found)
    assert max(one.times for one in found) < 0.75


# The smallest faults of those tried that are still seen, by format: a factor of the scale of
# attention's scores, and a norm's epsilon, which is computed in float32 whatever the format.
SMALLEST = {
    "float32": {"factor": 1 + 1e-6, "epsilon": 2e-6},
    "bfloat16": {"factor": 1.03, "epsilon": 2e-6, "cast": False},
    "int8": {"factor": 1.04, "epsilon": 2e-6, "cast": False},
    "fp8": {"factor": 1.06, "epsilon": 2e-6, "cast": False},
}
FAULTS = [(form, fault) for form, faults in SMALLEST.items() for fault in faults]


@pytest.mark.parametrize(
    ("form", "fault", "fused"),
    [
        ("float32", "epsilon", True),
        ("bfloat16", "cast", True),
        *(long(*one, fused) for one in FAULTS for fused in (True, False)),
    ],
)
def test_a_fault_is_seen_also_beside_rounding(form: str, fault: str, fused: bool) -> None:
    found = judged(form, fused=fused, **{fault: SMALLEST[form][fault]})
    faults = [one for one in found if not one.is_rounding]
    if fault == "cast":
        assert any(one.formats == ("float32", "bfloat16") for one in faults)
    else:
        assert max(one.times for one in faults) > judging.LIMIT
        assert {one.a.operation for one in faults} <= {"add", "mul"}


def sums(parts: int, factor: float = 1.0) -> Callable[..., Any]:
    """Sums of the squares of many arrays, a number each, in so many parts; one is a little more."""

    def step(params: Any, x: jax.Array) -> dict[str, Any]:
        found = {name: (one.reshape(parts, -1) ** 2).sum(1).sum() for name, one in params.items()}
        found["0"] = found["0"] * factor
        return {"loss": x.sum(), "gradients": found}

    return step


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-5])
def test_single_sums_in_another_order_are_rounding_and_a_factor_is_not(factor: float) -> None:
    arrays = np.random.default_rng(0).standard_normal((32, 512))
    params = {str(number): jnp.asarray(one, jnp.float32) for number, one in enumerate(arrays)}
    a, b = (partial(capture, one, params, X) for one in (sums(4), sums(1, factor)))
    found = judging.judge(a(), lambda change: a(change=change), lambda change: b(change=change),
                          parting.partners(a(), b()))  # fmt: skip
    assert len(found) > 8
    assert sum(not one.is_rounding for one in found) == (factor != 1)


def test_a_number_is_moved_by_a_unit_in_its_last_place() -> None:
    values = jnp.asarray([1.0, 1.5, 0.0, -jnp.inf, 3e38], jnp.float32)
    moved = np.asarray(judging.moved(values, np.random.Generator(np.random.PCG64(0))))
    ulps = np.abs(moved.view(np.int32) - np.asarray(values).view(np.int32))
    assert set(ulps[:2]) <= {1, 2}
    assert list(ulps[2:4]) == [0, 0]
    whole = jnp.arange(3)
    assert judging.moved(whole, np.random.Generator(np.random.PCG64(0))) is whole


def test_how_far_values_are_apart() -> None:
    one = np.asarray([3.0, 4.0, np.inf, np.nan], np.float32)
    other = np.asarray([3.0, 4.5, np.inf, np.nan], np.float32)
    assert judging.relative(one, one) == 0
    assert judging.relative(other, one) == pytest.approx(0.1)
    assert judging.relative(one.astype(np.float64), one) == 0
    assert judging.relative(one[:2], one) == float("inf")
    assert judging.relative(np.zeros(2), np.asarray([np.inf, 1])) == float("inf")
