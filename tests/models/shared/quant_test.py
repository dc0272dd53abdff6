"""The number formats of the matmuls: against float64, and against an independent library."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matmuls import (
    EVERY_QUANTIZATION,
    EVERY_SHAPE,
    KEY,
    WI,
    Shapes,
    operands,
    products,
    project,
)

from models.decoder.sites import Site
from models.shared import quant
from models.shared.projection import Projection
from models.shared.quant import number_format
from models.shared.settings import Quantization

# --- what each format allows ---------------------------------------------------------------------


def step_error(
    value: np.ndarray, over: tuple[int, ...], quantization: Quantization, role: str
) -> np.ndarray:
    """The largest rounding error of each element whose scale is shared `over` these axes.

    int8: half a step, or a whole one when it is rounded stochastically. fp8: half a unit in the
    last place, 2^-4 of a normal e4m3 and 2^-3 of a normal e5m2, and half the spacing of the
    subnormals, whose scale is at most absmax * 2^-7 and 2^-14.
    """
    if quantization == "int8":
        step = np.abs(value).max(over, keepdims=True) / 127
        return np.broadcast_to(step if role == "gradient" else step / 2, value.shape)
    relative, subnormal = (2**-3, 2**-31) if role == "gradient" else (2**-4, 2**-17)
    shared = tuple(range(value.ndim)) if role == "kernel" else tuple(range(1, value.ndim))
    absmax = np.abs(value).max(shared, keepdims=True)
    return np.maximum(relative * np.abs(value), subnormal * absmax)


def judge(
    got: jax.Array,
    contract: Callable[[np.ndarray, np.ndarray], np.ndarray],
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
    additions: int = 1,
) -> None:
    """Each error within the worst case, and all together within what rounding makes of chance.

    (a + da)(b + db) - ab is at most |a||db| + |da||b| + |da||db|. An error spread evenly over
    [-d, d] has variance d^2 / 3, and stochastic rounding no more. The result and each addition are
    rounded to bfloat16: 2^-9 of what was added up.
    """
    (a, da), (b, db) = left, right
    exact = contract(a, b)
    a, b = np.abs(a), np.abs(b)
    rounded = additions * 2.0**-8 * contract(a + da, b + db)
    error = np.abs(np.asarray(got, np.float64) - exact)
    assert (
        error <= (contract(a, db) + contract(da, b) + contract(da, db)) * 1.0001 + rounded
    ).all()
    a2, da2, b2, db2 = (np.square(term) for term in (a, da, b, db))
    variance = (contract(a2, db2) + contract(da2, b2) + contract(da2, db2) / 3) / 3
    variance += np.square(additions * 2.0**-9 * exact)
    normalised = np.square(error) / variance
    assert normalised.mean() < 1.5


@EVERY_QUANTIZATION
@EVERY_SHAPE
def test_every_product_is_as_exact_as_its_format_allows(
    shapes: Shapes, quantization: Quantization
) -> None:
    tensors = operands(shapes)
    y, x_gradient, kernel_gradient = products(project(shapes, quantization), shapes, *tensors)
    x, kernel, g = (np.asarray(tensor, np.float64) for tensor in tensors)
    K, M = len(shapes.contracted), len(shapes.kept)

    def rounded(value: np.ndarray, over: range, role: str) -> tuple[np.ndarray, np.ndarray]:
        return value, step_error(value, tuple(over), quantization, role)

    last_of_x, last_of_g = range(2, 2 + K), range(2, 2 + M)
    judge(
        y,
        lambda a, b: np.tensordot(a, b, K),
        rounded(x, last_of_x, "activation"),
        rounded(kernel, range(K), "kernel"),
    )
    judge(
        x_gradient,
        lambda a, b: np.tensordot(a, b, (list(last_of_g), list(range(K, K + M)))),
        rounded(g, last_of_g, "gradient"),
        rounded(kernel, range(K, K + M), "kernel"),
    )
    judge(
        kernel_gradient,
        lambda a, b: np.tensordot(a, b, ((0, 1), (0, 1))),
        rounded(x, range(1, 2), "activation"),
        rounded(g, range(1, 2), "gradient"),
        additions=len(x),
    )


@EVERY_SHAPE
def test_the_forwards_int8_serves_backward(shapes: Shapes) -> None:
    """The gradients are those of the rounded operands: only the gradient is rounded again."""
    x, kernel, g = operands(shapes)
    K, M = len(shapes.contracted), len(shapes.kept)
    int8 = number_format("int8", use_fwd_quant=True)
    forward = (
        int8.activation(x, tuple(range(2, 2 + K))),
        int8.kernel(kernel, tuple(range(K))),
    )
    x_values, kernel_values = (np.asarray(operand.values, np.float64) for operand in forward)
    x_scale, kernel_scale = (np.asarray(operand.scale, np.float64) for operand in forward)
    projection = project(shapes, "int8", use_fwd_quant=True)
    y, x_gradient, kernel_gradient = products(projection, shapes, x, kernel, g)
    np.testing.assert_array_equal(y, products(project(shapes, "int8"), shapes, x, kernel, g)[0])

    def rounded(value: np.ndarray, over: range) -> tuple[np.ndarray, np.ndarray]:
        return value, step_error(value, tuple(over), "int8", "gradient")

    exact = np.asarray(g, np.float64)
    last_of_g = list(range(2, 2 + M))
    judge(
        x_gradient,
        lambda a, b: np.tensordot(a, b, (last_of_g, list(range(K, K + M)))),
        rounded(exact * kernel_scale.reshape(shapes.kept), range(2, 2 + M)),
        (kernel_values, np.zeros(kernel.shape)),
    )
    judge(
        kernel_gradient,
        lambda a, b: np.tensordot(a, b, ((0, 1), (0, 1))),
        (x_values, np.zeros(x.shape)),
        rounded(exact * x_scale.reshape(8, 16, *(1 for _ in shapes.kept)), range(1, 2)),
        additions=len(x),
    )


# --- stochastic rounding -------------------------------------------------------------------------


def exact_operands() -> tuple[Shapes, jax.Array, jax.Array, jax.Array]:
    """Operands whose gradients are 64 times g, but for g's own rounding.

    One place of 127.5 in every channel makes its scale exactly 1; the g that meets it is zero.
    """
    M = 12
    shapes = Shapes((M,), (M,), ("embed", "mlp"))
    picker = 64 * jnp.eye(M).at[:, -1].set(127.5 / 64)
    g = jax.random.normal(jax.random.key(0), (1, M, M)).at[:, -1].set(0).at[:, :, -1].set(0)
    return shapes, picker.T[None], picker, g


def test_stochastic_rounding_is_unbiased() -> None:
    shapes, x, kernel, g = exact_operands()
    draws = 1000

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, x_gradient, kernel_gradient = products(
            project(shapes, "int8"), shapes, x, kernel, g, key
        )
        return x_gradient[0], kernel_gradient

    means = [
        np.asarray(result, np.float64).mean(0) / 64
        for result in jax.jit(jax.vmap(draw))(jax.random.split(KEY, draws))
    ]
    expected = np.asarray(g[0], np.float64)
    scores = []
    for mean, axis in zip(means, (1, 0), strict=True):
        step = np.abs(expected).max(axis, keepdims=True) / 127
        step[step == 0] = 1
        fraction = np.modf(np.abs(expected) / step)[0]
        certain = np.minimum(fraction, 1 - fraction) < 1e-5  # zeros and the largest
        np.testing.assert_allclose(mean[certain], expected[certain], rtol=1e-5)
        error = step * np.sqrt(fraction * (1 - fraction) / draws)
        scores.append((mean - expected)[~certain] / error[~certain])
    errors = np.concatenate(scores)
    assert errors.size > 200
    assert np.abs(errors).max() < 4
    assert 0.7 < np.square(errors).mean() < 1.3  # the noise is as wide as it should be, too


def test_noise_is_fresh_for_every_key_and_site_and_the_same_for_the_same() -> None:
    x, kernel, g = operands(WI)
    keys = jax.random.split(KEY, 2)

    def gradient(key: jax.Array, site: Site) -> np.ndarray:
        projection = Projection("int8", WI.axes, site, True, False)
        return np.asarray(products(projection, WI, x, kernel, g, key)[1])

    first = gradient(keys[0], Site.WI_0)
    np.testing.assert_array_equal(first, gradient(keys[0], Site.WI_0))
    for other in (gradient(keys[1], Site.WI_0), gradient(keys[0], Site.WI_1)):
        assert (first != other).mean() > 0.5


def test_noise_is_a_hash_of_seed_and_place() -> None:
    """MurmurHash3's finaliser of every word in turn, in Python's own integers."""

    def mix(x: int) -> int:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            x = (x ^ (x >> shift)) * factor % 2**32
        return x

    assert mix(1) == 0x514E28B7  # a published value
    seed = [5, 2**31 + 7, 11]
    drawn = jax.jit(lambda seed: quant._noise((2, 3, 2, 2), seed))(jnp.asarray(seed, jnp.uint32))
    found = np.asarray(drawn).reshape(6, 4)
    for row, values in enumerate(found):
        for word in seed:
            row = mix(row ^ word)
        assert list(values) == [(mix(row ^ mix(column + 1)) >> 9) / 2**23 for column in range(4)]


def test_noise_of_neighbours_is_uncorrelated() -> None:
    """Over many keys, the roundings of two elements of a row, or a column, agree by chance only."""
    shapes, x, kernel, _ = exact_operands()
    g = jnp.full((1, 12, 12), 0.5).at[:, :, 0].set(127).at[:, -1].set(0).at[:, :, -1].set(0)

    def draw(key: jax.Array) -> jax.Array:
        return products(project(shapes, "int8"), shapes, x, kernel, g, key)[1][0] / 64

    ups = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, 1000)))[:, :-1, 1:-1]
    assert set(np.unique(ups)) == {0, 1}
    for neighbours in (ups, ups.swapaxes(1, 2)):
        agreement = [
            (a == b).mean() for a, b in pairwise(neighbours.transpose(1, 2, 0).reshape(-1, 1000))
        ]
        assert abs(np.mean(agreement) - 0.5) < 0.1


# --- extremes ------------------------------------------------------------------------------------


@EVERY_QUANTIZATION
@pytest.mark.parametrize("zero", [0, 1, 2], ids=["x", "kernel", "g"])
def test_zeros_make_zeros(quantization: Quantization, zero: int) -> None:
    tensors = operands(WI)
    tensors[zero] = jnp.zeros_like(tensors[zero])
    y, x_gradient, kernel_gradient = products(project(WI, quantization), WI, *tensors)
    results = {0: (y, kernel_gradient), 1: (y, x_gradient), 2: (x_gradient, kernel_gradient)}
    for result in results[zero]:
        np.testing.assert_array_equal(result, jnp.zeros_like(result))
    assert all(np.isfinite(result).all() for result in (y, x_gradient, kernel_gradient))


@EVERY_QUANTIZATION
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_surfaces_wherever_it_shares_a_scale(
    quantization: Quantization, bad: float
) -> None:
    tensors = operands(WI)
    clean = products(project(WI, quantization), WI, *tensors)
    x, kernel, g = tensors
    results = products(
        project(WI, quantization), WI, x.at[2, 3, 4].set(bad), kernel, g.at[5, 6, 7].set(bad)
    )
    y, x_gradient, kernel_gradient = (np.isfinite(result) for result in results)
    if quantization == "int8":  # a position's scale forward, a channel's in the kernel's gradient
        touched_y, touched_x = np.zeros(WI.y, bool), np.zeros(WI.x, bool)
        touched_y[2, 3], touched_x[5, 6] = True, True
        touched_kernel = np.zeros(WI.kernel, bool)
        touched_kernel[4], touched_kernel[:, 7] = True, True
    else:  # a sequence's
        touched_y, touched_x = np.zeros(WI.y, bool), np.zeros(WI.x, bool)
        touched_y[2], touched_x[5] = True, True
        touched_kernel = np.ones(WI.kernel, bool)
    np.testing.assert_array_equal(~y, touched_y)
    np.testing.assert_array_equal(~x_gradient, touched_x)
    np.testing.assert_array_equal(~kernel_gradient, touched_kernel)
    for result, expected in zip(results, clean, strict=True):
        kept = np.isfinite(result)
        np.testing.assert_array_equal(result[kept], expected[kept])


@EVERY_QUANTIZATION
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_kernel_that_is_not_finite_surfaces(quantization: Quantization, bad: float) -> None:
    x, kernel, g = operands(WI)
    y, x_gradient, _ = products(project(WI, quantization), WI, x, kernel.at[4, 7].set(bad), g)
    assert not np.isfinite(y[:, :, 7]).any()
    assert not np.isfinite(x_gradient[:, :, 4]).any()


@EVERY_QUANTIZATION
@pytest.mark.parametrize("exponent", [-149, -133, -126, -101, -60, 60, 100])
def test_magnitude_makes_no_difference(quantization: Quantization, exponent: int) -> None:
    """Powers of two pass through unchanged, down to 2^-100; below, values fade without a NaN."""
    x, kernel, g = operands(WI, jnp.float32)
    projection = project(WI, quantization, stochastic=False)
    plain = products(projection, WI, x, kernel, g)
    x_scale = np.float64(2.0) ** exponent
    scaled = jnp.asarray(np.asarray(x, np.float64) * x_scale, jnp.float32)
    kernel_scale = 2.0 ** (-exponent // 2)
    results = products(projection, WI, scaled, kernel * kernel_scale, g)
    assert all(np.isfinite(result).all() for result in results)
    if exponent >= -60:
        for result, unscaled, factor in zip(
            results, plain, (x_scale * kernel_scale, kernel_scale, x_scale), strict=True
        ):
            expected = np.asarray(unscaled, np.float64) * factor
            np.testing.assert_allclose(result, expected, rtol=1e-6)


# --- an independent library ----------------------------------------------------------------------


@EVERY_SHAPE
def test_qwix_agrees_to_the_last_step(shapes: Shapes) -> None:
    qwix = pytest.importorskip("qwix")
    x, kernel, g = operands(shapes, jnp.float32)
    ours = products(project(shapes, "int8"), shapes, x, kernel, g)[0]

    def quantize(tensor: jax.Array, channels: range) -> Any:
        theirs = qwix.quantize(tensor, jnp.int8, channelwise_axes=list(channels))
        symmetric = jnp.maximum(theirs.qvalue, -127)  # qwix rounds -127.5 to -128, we clip it
        return dataclasses.replace(theirs, qvalue=symmetric)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as qwix does
        their_x = quantize(x, range(2))
        their_kernel = quantize(kernel, range(len(shapes.contracted), kernel.ndim))
        theirs = qwix.dot_general(their_x, their_kernel, shapes.dimension_numbers)
    x_step = np.asarray(their_x.scale).reshape(8, 16, *(1 for _ in shapes.kept))
    kernel_step = np.asarray(their_kernel.scale).reshape(shapes.kept)
    difference = np.abs(np.asarray(ours - theirs, np.float64))
    same = difference <= 1e-6 * np.abs(theirs) + 1e-3 * x_step * kernel_step
    assert same.mean() > 0.99  # a quotient that lands on a half may round either way
    assert (difference <= 1.001 * 127 * x_step * kernel_step).all()
