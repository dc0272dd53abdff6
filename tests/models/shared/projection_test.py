"""The projections: what they refuse, in both frameworks, and on a mesh."""

import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from matmuls import (
    EVERY_QUANTIZATION,
    EVERY_SHAPE,
    KEY,
    OUT,
    QUANTIZATIONS,
    QUERY,
    WI,
    Shapes,
    mesh_of,
    operands,
    products,
    project,
)

from models.shared.projection import GATHERED, Projection, rounding
from models.shared.settings import Quantization


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


def test_rounding_to_nearest_needs_no_key_and_draws_nothing() -> None:
    x, kernel, g = operands(WI)
    projection = project(WI, "int8", stochastic=False)

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return projection(x, kernel, WI.dimension_numbers)

    @jax.jit
    def without_key(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, transpose = jax.vjp(forward, x, kernel)
        return y, *transpose(g)

    with_key = products(projection, WI, x, kernel, g)
    for ours, theirs in zip(without_key(x, kernel, g), with_key, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "threefry" not in jax.jit(without_key).lower(x, kernel, g).as_text()


def test_stochastic_rounding_without_a_key_is_refused() -> None:
    x, kernel, _ = operands(WI)
    with pytest.raises(ValueError, match=r"inside rounding\(key\)"):
        project(WI, "int8")(x, kernel, WI.dimension_numbers)


@EVERY_QUANTIZATION
def test_a_product_no_layer_makes_is_refused(quantization: Quantization) -> None:
    x, kernel, _ = operands(WI)
    with rounding(KEY), pytest.raises(ValueError, match="contracts the last"):
        project(WI, quantization)(x, kernel.T, (((2,), (1,)), ((), ())))
    with rounding(KEY), pytest.raises(ValueError, match="contracts the last"):
        project(WI, quantization)(x[0], kernel, (((1,), (0,)), ((), ())))


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


@pytest.mark.parametrize("quantization", ["none", *QUANTIZATIONS])
def test_linen_and_nnx_are_bit_equal_under_scan_and_remat(
    quantization: Quantization,
) -> None:
    shapes = OUT
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

        with mesh_of(8):
            value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(kernels, x)
        return [np.asarray(leaf) for leaf in (value, *gradients)]

    for ours, theirs in zip(results(linen_layer), results(nnx_layer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.isfinite(ours).all()


@EVERY_QUANTIZATION
@pytest.mark.parametrize("shapes", [QUERY, OUT], ids=["query", "out"])
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


@pytest.mark.parametrize(
    ("quantization", "axes", "fences"),
    [
        ("none", QUERY.axes, 1),
        ("int8", QUERY.axes, 2),  # gathered anew, in another rounding, for the backward pass
        ("none", ("embed", "q_heads", "vocab"), 2),  # and its gradient before all others
    ],
)
def test_what_the_compiler_must_not_reorder_is_fenced(
    quantization: Quantization, axes: tuple[str, ...], fences: int
) -> None:
    with mesh_of(8):
        projection = project(QUERY._replace(axes=axes), quantization)
        text = products.lower(projection, QUERY, *operands(QUERY)).as_text()
    assert text.count("optimization_barrier") == fences
    # Each device's piece of the kernel, in its format, is what passes the fence and travels.
    assert 0 < text.find("sharding_constraint") < text.find("optimization_barrier")


def test_the_gathered_kernel_and_the_site_have_names() -> None:
    x, kernel, _ = operands(WI)
    projection = project(WI, "none")

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return projection(x, kernel, WI.dimension_numbers)

    assert f"name[name={GATHERED}]" in str(jax.make_jaxpr(forward)(x, kernel))
    assert "/key/" in jax.jit(forward).lower(x, kernel).as_text(debug_info=True)
