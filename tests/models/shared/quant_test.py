"""The quantised matmuls against float64, qwix, and each other in both frameworks."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from models.decoder.sites import Site
from models.shared import partitioning
from models.shared.projection import Projection, rounding
from models.shared.quant import Quantization, number_format

QUANTIZATIONS: list[Quantization] = ["int8", "fp8"]
KEY = jax.random.key(3)


class Shapes(NamedTuple):
    """One of the layers' matmuls: x [8, 16, ...] times a kernel with these logical axes."""

    contracted: tuple[int, ...]
    kept: tuple[int, ...]
    axes: tuple[str, ...]

    @property
    def x(self) -> tuple[int, ...]:
        return (8, 16, *self.contracted)

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.contracted + self.kept

    @property
    def y(self) -> tuple[int, ...]:
        return (8, 16, *self.kept)

    @property
    def dimension_numbers(self) -> jax.lax.DotDimensionNumbers:
        count = len(self.contracted)
        return (tuple(range(2, 2 + count)), tuple(range(count))), ((), ())


QUERY = Shapes((32,), (4, 8), ("embed", "q_heads", "kv"))
OUT = Shapes((4, 8), (32,), ("heads", "kv", "embed"))
WI = Shapes((32,), (48,), ("embed", "mlp"))
WO = Shapes((48,), (32,), ("mlp", "embed"))
EVERY_SHAPE = pytest.mark.parametrize(
    "shapes", [QUERY, OUT, WI, WO], ids=["query", "out", "wi", "wo"]
)
EVERY_QUANTIZATION = pytest.mark.parametrize("quantization", QUANTIZATIONS)


def operands(shapes: Shapes, dtype: jnp.dtype = jnp.bfloat16) -> list[jax.Array]:
    """x, kernel and the result's gradient; magnitudes differ from channel to channel."""
    generator = np.random.default_rng(0)

    def tensor(shape: tuple[int, ...]) -> jax.Array:
        spread = [generator.lognormal(size=size) for size in shape]
        scale = reduce(np.multiply, np.ix_(*spread))
        return jnp.asarray(generator.normal(size=shape) * scale, dtype)

    return [tensor(shape) for shape in (shapes.x, shapes.kernel, shapes.y)]


def products(
    projection: Projection,
    shapes: Shapes,
    x: jax.Array,
    kernel: jax.Array,
    g: jax.Array,
    key: jax.Array = KEY,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The result, x's gradient and the kernel's gradient."""

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        with rounding(key):
            return projection(x, kernel, shapes.dimension_numbers, out_sharding=None)

    y, transpose = jax.vjp(forward, x, kernel)
    return y, *transpose(g)


def project(
    shapes: Shapes, quantization: Quantization, stochastic: bool = True, use_fwd_quant: bool = False
) -> Projection:
    return Projection(quantization, shapes.axes, Site(5), stochastic, use_fwd_quant)


@contextmanager
def mesh_of(devices: int) -> Iterator[None]:
    mesh = jax.make_mesh((devices,), ("fsdp",), (AxisType.Auto,), devices=jax.devices()[:devices])
    names = {name for shapes in (QUERY, OUT, WI, WO) for name in shapes.axes}
    rules = {name: "fsdp" if name == "embed" else None for name in names}
    with jax.set_mesh(mesh), partitioning.axis_rules(rules):
        yield


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


@pytest.mark.parametrize("quantization", ["none", *QUANTIZATIONS])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_results_and_gradients_keep_their_dtypes(
    quantization: Quantization, dtype: jnp.dtype
) -> None:
    tensors = operands(QUERY, dtype)
    for result in products(project(QUERY, quantization), QUERY, *tensors):
        assert result.dtype == dtype


@EVERY_SHAPE
def test_none_is_the_plain_product(shapes: Shapes) -> None:
    x, kernel, g = operands(shapes)

    def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.dot_general(x, kernel, shapes.dimension_numbers)

    y, transpose = jax.vjp(plain, x, kernel)
    got = products(project(shapes, "none"), shapes, x, kernel, g)
    for ours, theirs in zip(got, (y, *transpose(g)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


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


def test_rounding_to_nearest_needs_no_key_and_draws_nothing() -> None:
    x, kernel, g = operands(WI)
    projection = project(WI, "int8", stochastic=False)

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return projection(x, kernel, WI.dimension_numbers)

    y, transpose = jax.vjp(forward, x, kernel)
    with_key = products(projection, WI, x, kernel, g)
    for ours, theirs in zip((y, *transpose(g)), with_key, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_stochastic_rounding_without_a_key_is_refused() -> None:
    x, kernel, _ = operands(WI)
    with pytest.raises(ValueError, match=r"inside rounding\(key\)"):
        project(WI, "int8")(x, kernel, WI.dimension_numbers)


@EVERY_QUANTIZATION
def test_a_product_no_layer_makes_is_refused(quantization: Quantization) -> None:
    x, kernel, _ = operands(WI)
    with rounding(KEY), pytest.raises(ValueError, match="contracts the last"):
        project(WI, quantization)(x, kernel.T, (((2,), (1,)), ((), ())))


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

    their_x = quantize(x, range(2))
    their_kernel = quantize(kernel, range(len(shapes.contracted), kernel.ndim))
    theirs = qwix.dot_general(their_x, their_kernel, shapes.dimension_numbers)
    x_step = np.asarray(their_x.scale).reshape(8, 16, *(1 for _ in shapes.kept))
    kernel_step = np.asarray(their_kernel.scale).reshape(shapes.kept)
    difference = np.abs(np.asarray(ours - theirs, np.float64))
    same = difference <= 1e-6 * np.abs(theirs) + 1e-3 * x_step * kernel_step
    assert same.mean() > 0.99  # a quotient that lands on a half may round either way
    assert (difference <= 1.001 * 127 * x_step * kernel_step).all()


# --- frameworks, transforms and meshes -----------------------------------------------------------


def linen_layer(shapes: Shapes, projection: Projection) -> Callable[..., jax.Array]:
    layer = nn.DenseGeneral(
        shapes.kept,
        axis=tuple(range(-len(shapes.contracted), 0)),
        use_bias=False,
        dtype=jnp.bfloat16,
        dot_general=projection,
    )

    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        result = layer.apply({"params": {"kernel": kernel}}, x)
        assert isinstance(result, jax.Array)
        return result

    return apply


def nnx_layer(shapes: Shapes, projection: Projection) -> Callable[..., jax.Array]:
    layer = nnx.LinearGeneral(
        shapes.contracted,
        shapes.kept,
        axis=tuple(range(-len(shapes.contracted), 0)),
        use_bias=False,
        dtype=jnp.bfloat16,
        dot_general=projection,
        rngs=nnx.Rngs(0),
    )
    graph, _ = nnx.split(layer)
    return lambda kernel, x: nnx.merge(graph, {"kernel": kernel})(x)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("quantization", ["none", *QUANTIZATIONS])
@pytest.mark.parametrize("shapes", [QUERY, OUT], ids=["query", "out"])
def test_linen_and_nnx_are_bit_equal_under_scan_and_remat(
    shapes: Shapes, quantization: Quantization, devices: int
) -> None:
    x, _, _ = operands(shapes)
    kernels = jax.random.normal(KEY, (3, *shapes.kernel))  # three layers
    keys = jax.random.split(KEY, 3)

    def results(make_layer: Callable[..., Callable[..., jax.Array]]) -> list[np.ndarray]:
        layer = make_layer(shapes, project(shapes, quantization))

        def loss(kernels: jax.Array, x: jax.Array) -> jax.Array:
            def body(x: jax.Array, of_layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
                kernel, key = of_layer
                with rounding(key):
                    return nn.silu(layer(kernel, x)).reshape(x.shape), None

            y, _ = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), x, (kernels, keys))
            return jnp.sum(jnp.square(y.astype(jnp.float32)))

        with mesh_of(devices):
            value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(kernels, x)
        return [np.asarray(leaf) for leaf in (value, *gradients)]

    for ours, theirs in zip(results(linen_layer), results(nnx_layer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.isfinite(ours).all()


@EVERY_QUANTIZATION
@EVERY_SHAPE
def test_one_and_eight_devices_agree(shapes: Shapes, quantization: Quantization) -> None:
    """Bit for bit, but for the order in which eight sequences' kernel gradients are added."""
    tensors = operands(shapes)
    projection = project(shapes, quantization)

    def compute(*tensors: jax.Array) -> tuple[jax.Array, ...]:
        return products(projection, shapes, *tensors)

    results = []
    for devices in (1, 8):
        with mesh_of(devices):
            placed = [
                jax.device_put(tensor, jax.NamedSharding(jax.sharding.get_mesh(), spec))
                for tensor, spec in zip(tensors, specs(shapes), strict=True)
            ]
            results.append(jax.jit(compute)(*placed))
    (y, x_gradient, kernel_gradient), (other_y, other_x_gradient, other_kernel_gradient) = (
        [np.asarray(result, np.float32) for result in of_mesh] for of_mesh in results
    )
    np.testing.assert_array_equal(y, other_y)
    np.testing.assert_array_equal(x_gradient, other_x_gradient)
    tolerance = 8 * 2.0**-8 * np.abs(kernel_gradient).max()
    np.testing.assert_allclose(kernel_gradient, other_kernel_gradient, atol=tolerance)


def specs(shapes: Shapes) -> list[jax.sharding.PartitionSpec]:
    batch = jax.sharding.PartitionSpec("fsdp")
    kernel = jax.sharding.PartitionSpec(*("fsdp" if a == "embed" else None for a in shapes.axes))
    return [batch, kernel, batch]


@EVERY_SHAPE
def test_int8_kernels_travel_as_int8_and_no_product_is_wider(shapes: Shapes) -> None:
    def compute(*tensors: jax.Array) -> tuple[jax.Array, ...]:
        return products(project(shapes, "int8"), shapes, *tensors)

    with mesh_of(8):
        mesh = jax.sharding.get_mesh()
        arguments = [
            jax.ShapeDtypeStruct(t.shape, t.dtype, sharding=jax.NamedSharding(mesh, spec))
            for t, spec in zip(operands(shapes), specs(shapes), strict=True)
        ]
        lowered = jax.jit(compute).lower(*arguments)
    dots = re.findall(r"stablehlo.dot_general.*: \((.*), (.*)\) -> (.*)", lowered.as_text())
    assert len(dots) == 3
    for left, right, result in dots:
        assert (left[-4:], right[-4:], result[-5:]) == ("xi8>", "xi8>", "xi32>")
    gathers = re.findall(r"= (\w+)\[([\d,]+)\]\S* all-gather\(", str(lowered.compile().as_text()))
    sizes = [(kind, np.prod([int(n) for n in size.split(",")])) for kind, size in gathers]
    assert ("s8", np.prod(shapes.kernel)) in sizes
    assert all(kind == "s8" for kind, size in sizes if size == np.prod(shapes.kernel))
