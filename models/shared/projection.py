"""The matmuls of the decoder: the `dot_general` that both twins hand to each of their projections.

A kernel arrives as it lies, in pieces. It is brought into its format piece by piece and gathered in
it; the gradient of the whole is scattered back to the pieces.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from models.shared import partitioning
from models.shared.partitioning import Axes
from models.shared.quant import (
    Format,
    Quantized,
    absorb,
    first,
    last,
    number_format,
    product,
)
from models.shared.settings import Quantization

GATHERED = "gathered kernel"
_ROUNDING_KEY: ContextVar[jax.Array] = ContextVar("rounding_key")


@contextmanager
def rounding(key: jax.Array) -> Iterator[None]:
    """Puts the layer's key in force, from which the matmuls traced inside draw their noise."""
    token = _ROUNDING_KEY.set(key)
    try:
        yield
    finally:
        _ROUNDING_KEY.reset(token)


@dataclass(frozen=True)
class Projection:
    """The `dot_general` of one projection: gathers its kernel and multiplies in its precision.

    `axes` are the logical axes of the kernel of one layer; `site` keeps the rounding noise of a
    layer's matmuls apart.
    """

    quantization: Quantization
    axes: Axes
    site: IntEnum
    stochastic_rounding: bool
    use_fwd_quant: bool

    def __call__(
        self,
        lhs: jax.Array,
        rhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: lax.PrecisionLike = None,
        **options: Any,
    ) -> jax.Array:
        """`lax.dot_general` of activations [B, T, ..., contracted] and kernel [contracted, ...].

        The result has the activations' dtype; precision and options have no meaning here. Raises
        ValueError for other dimension numbers, and for stochastic rounding outside `rounding`.
        """
        contracted = len(dimension_numbers[0][0])
        trailing = last(lhs, contracted)
        if dimension_numbers != ((trailing, first(contracted)), ((), ())) or trailing[0] < 2:
            raise ValueError(
                f"dimension_numbers={dimension_numbers}: a projection contracts the last axes of"
                " its activations [B, T, ...] with the first of its kernel"
            )
        with jax.named_scope(self.site.name.lower()):
            kind = number_format(self.quantization, self.use_fwd_quant)
            return _matmul(kind, self.axes, contracted, lhs, rhs, self._seed())

    def _seed(self) -> jax.Array | None:
        """The words of the rounding key and the site, where the gradient is to be dithered."""
        if self.quantization != "int8" or not self.stochastic_rounding:
            return None
        try:
            key = _ROUNDING_KEY.get()
        except LookupError:
            raise ValueError("stochastic rounding needs a key: call inside rounding(key)") from None
        return jnp.append(jax.random.key_data(key), jnp.uint32(self.site))


def _gathered(kernel: Quantized, axes: Axes) -> Quantized:
    """The whole of it on every device; held to `axes` first, so that its format is what travels.

    The barrier keeps the compiler from gathering it in the layout of the stacked kernel that it was
    cut from, which the matmul would have to undo.
    """
    pieces = lax.optimization_barrier(partitioning.constrain(kernel.values, axes))
    whole = jax.tree.map(lambda x: partitioning.gather(x, axes), (pieces, kernel.scale))
    return Quantized(*checkpoint_name(whole, GATHERED))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _matmul(
    kind: Format,
    axes: Axes,
    contracted: int,
    x: jax.Array,
    kernel: jax.Array,
    seed: jax.Array | None,
) -> jax.Array:
    """x [B, T, K...] times kernel [K..., M...], which lies as `axes` say; K... are `contracted`."""
    return _matmul_forward(kind, axes, contracted, x, kernel, seed)[0]


_Operands = tuple[Quantized, Quantized]  # of the forward product: activations, gathered kernel
_Residuals = tuple[jax.Array, jax.Array, _Operands | None, jax.Array | None]


def _matmul_forward(
    kind: Format,
    axes: Axes,
    contracted: int,
    x: jax.Array,
    kernel: jax.Array,
    seed: jax.Array | None,
) -> tuple[jax.Array, _Residuals]:
    over = last(x, contracted), first(contracted)
    operands = kind.activation(x, over[0]), _gathered(kind.kernel(kernel, over[1]), axes)
    result = product(*operands, over, x.dtype)
    return result, (x, kernel, None if kind.requantizes else operands, seed)


def _matmul_backward(
    kind: Format, axes: Axes, contracted: int, residuals: _Residuals, g: jax.Array
) -> tuple[jax.Array, jax.Array, np.ndarray | None]:
    """Both gradients, whose operands are quantised over the axes that are contracted now."""
    x, kernel, operands, seed = residuals
    kept = kernel.ndim - contracted
    over = last(g, kept), last(kernel, kept)
    rows = first(x.ndim - contracted)  # B, T
    positions = rows[1:]
    activation, gathered = operands or (
        kind.activation(x, positions),
        _gathered(kind.kernel(kernel, over[1]), axes),
    )
    to_x, gathered = absorb(g, gathered, over, over[1])
    to_kernel, activation = absorb(g, activation, (rows, rows), positions)

    x_gradient = product(kind.gradient(to_x, over[0], seed), gathered, over, x.dtype)
    kernel_gradient = _kernel_gradient(
        activation,
        kind.gradient(to_kernel, positions, seed),
        (axes[:contracted], axes[contracted:]),
        kernel.dtype,
    )
    if axes[-1] == "vocab":
        # The largest tensor of all: scattered before the layers' gradients come, it is out of the
        # way; left to itself, XLA for TPU makes it last, beside all of them.
        x_gradient, kernel_gradient = lax.optimization_barrier((x_gradient, kernel_gradient))
    no_gradient = None if seed is None else np.zeros(seed.shape, jax.dtypes.float0)
    return x_gradient, kernel_gradient, no_gradient


def _kernel_gradient(
    x: Quantized, g: Quantized, axes: tuple[Axes, Axes], dtype: jnp.dtype
) -> jax.Array:
    """The gradient [K..., M...] of x [B, T, K...] and g [B, T, M...], left where `axes` say."""
    if partitioning.is_sharded(axes[1][-1]) and not partitioning.is_sharded(axes[0][0]):
        # What is scattered must lead: where it would cut within rows, XLA adds up the whole.
        flipped = _kernel_gradient(g, x, axes[::-1], dtype)
        return lax.transpose(flipped, last(flipped, len(axes[0])) + first(len(axes[1])))
    rows = first(x.values.ndim - len(axes[0]))  # B, T

    def part(x: Quantized, g: Quantized) -> jax.Array:
        if x.scale is None and g.scale is None:
            return product(x, g, (rows, rows), dtype)
        # Each sequence is a product of its own with its own scales; they are added in `dtype`, so
        # that neither a maximum nor an int32 sum crosses the wire.
        per_sequence = product(x, g, (rows[1:], rows[1:]), dtype, batch=rows[:1])
        return lax.reduce_sum(per_sequence, (0,))

    return partitioning.scatter_sum(part, (x, g), axes[0] + axes[1])


_matmul.defvjp(_matmul_forward, _matmul_backward)
