"""The layers' matmuls, with operands of every magnitude."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from models.decoder.sites import Site
from models.shared import partitioning
from models.shared.projection import Projection, rounding
from models.shared.settings import Quantization

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


@partial(jax.jit, static_argnums=(0, 1))
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
    rules = {name: "fsdp" if name == "embed" else None for name in names} | {
        "batch": "fsdp",
        "vocab": None,
    }
    with jax.set_mesh(mesh), partitioning.axis_rules(rules):
        yield
