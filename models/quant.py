"""int8 and fp8 matmuls: the `dot_general` that both twins hand to their seven projections.

A kernel arrives as it lies, in pieces. It is quantised piece by piece and gathered as int8 or
float8; of every tensor only the quantised form enters a matmul, forward and in both backward
products. Nothing is stored between steps: every scale comes from the tensors at hand.

Non-finite values make the scale they share non-finite, and so every result it touches: they surface
and are never clipped away. A channel whose largest magnitude is below 2^-100 (zeros, denormals) is
scaled as if it were 2^-100, so zeros stay zeros and nothing is divided by zero.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models import partitioning
from models.ops import Site
from models.partitioning import Axes

Dimensions = tuple[int, ...]

_SMALLEST = 2.0**-100

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

    quantization: Literal["none", "int8", "fp8"]
    axes: Axes
    site: Site
    stochastic_rounding: bool

    def __call__(
        self,
        lhs: jax.Array,
        rhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: lax.PrecisionLike = None,
        **options: Any,
    ) -> jax.Array:
        """`lax.dot_general` of activations [B, T, ..., contracted] and kernel [contracted, ...].

        In int8 and fp8 the result has the activations' dtype; precision and options have no
        meaning there. Raises ValueError for other dimension numbers, and for stochastic rounding
        outside `rounding`.
        """
        with jax.named_scope(self.site.name.lower()):
            return self._multiply(lhs, rhs, dimension_numbers, precision, options)

    def _multiply(
        self,
        lhs: jax.Array,
        rhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: lax.PrecisionLike,
        options: dict[str, Any],
    ) -> jax.Array:
        if self.quantization == "none":
            kernel = partitioning.gather(rhs, self.axes)
            return lax.dot_general(lhs, kernel, dimension_numbers, precision, **options)

        contracted = len(dimension_numbers[0][0])
        trailing = _last(lhs, contracted)
        if dimension_numbers != ((trailing, _first(contracted)), ((), ())) or trailing[0] < 2:
            raise ValueError(
                f"dimension_numbers={dimension_numbers}: a quantised projection contracts the last"
                " axes of its activations [B, T, ...] with the first of its kernel"
            )
        arithmetic = _Int8() if self.quantization == "int8" else _Fp8()
        return _matmul(arithmetic, self.axes, contracted, lhs, rhs, self._seed())

    def _seed(self) -> jax.Array | None:
        """The words of the rounding key and the site, where the gradient is to be dithered."""
        if self.quantization != "int8" or not self.stochastic_rounding:
            return None
        try:
            key = _ROUNDING_KEY.get()
        except LookupError:
            raise ValueError("stochastic rounding needs a key: call inside rounding(key)") from None
        return jnp.append(jax.random.key_data(key), jnp.uint32(self.site))


class _Quantized(NamedTuple):
    """values * scale stands for a tensor; scale is float32, 1 long on every axis it is shared."""

    values: jax.Array
    scale: jax.Array


@dataclass(frozen=True)
class _Int8:
    """Symmetric int8, one scale per channel: shared `over` the contracted axes only.

    To nearest, absmax stands at 127.5 and is clipped to 127, as in the reference. Stochastically it
    stands at 127: clipping would bias the largest value of every channel.
    """

    def activation(self, x: jax.Array, over: Dimensions) -> _Quantized:
        return self._to_nearest(x, over)

    def kernel(self, kernel: jax.Array, over: Dimensions) -> _Quantized:
        return self._to_nearest(kernel, over)

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> _Quantized:
        if seed is None:
            return self._to_nearest(g, over)
        largest = _absmax(g, over)
        values = jnp.floor(g.astype(jnp.float32) * (127 / largest) + _noise(g.shape, seed))
        return _Quantized(_int8(values), largest / 127)

    def _to_nearest(self, x: jax.Array, over: Dimensions) -> _Quantized:
        largest = _absmax(x, over)
        values = jnp.round(x.astype(jnp.float32) * (127.5 / largest))  # half to even
        return _Quantized(_int8(values), largest / 127.5)


@dataclass(frozen=True)
class _Fp8:
    """e4m3 activations and kernels, e5m2 gradients; one scale per sequence or kernel.

    The reference takes its scales from the largest values of the last 1,024 steps, which costs
    state (and arrays in the checkpoint), lets a sudden outlier overflow, and leaves the first step
    unscaled. Here the scale is the current tensor's, which costs a pass over it. A power of two,
    it rounds nothing: all the error is the format's own. One per sequence, not per batch, so that
    no device waits for another's maximum.
    """

    def activation(self, x: jax.Array, over: Dimensions) -> _Quantized:
        return _float8(x, _last(x, x.ndim - 1), jnp.float8_e4m3fn)

    def kernel(self, kernel: jax.Array, over: Dimensions) -> _Quantized:
        return _float8(kernel, _first(kernel.ndim), jnp.float8_e4m3fn)

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> _Quantized:
        return _float8(g, _last(g, g.ndim - 1), jnp.float8_e5m2)


_Arithmetic = _Int8 | _Fp8


def _first(count: int) -> Dimensions:
    return tuple(range(count))


def _last(x: jax.Array, count: int) -> Dimensions:
    return tuple(range(x.ndim - count, x.ndim))


def _absmax(x: jax.Array, over: Dimensions) -> jax.Array:
    largest = jnp.max(jnp.abs(x), over, keepdims=True).astype(jnp.float32)
    return jnp.maximum(largest, _SMALLEST)


def _int8(values: jax.Array) -> jax.Array:
    return jnp.clip(values, -127, 127).astype(jnp.int8)


def _float8(x: jax.Array, over: Dimensions, dtype: jnp.dtype) -> _Quantized:
    """x in `dtype`, its largest magnitude in the format's last full octave."""
    octave = lax.bitcast_convert_type(_absmax(x, over), jnp.uint32) & jnp.uint32(0x7F800000)
    scale = lax.bitcast_convert_type(octave, jnp.float32) * 2.0 ** (2 - jnp.finfo(dtype).maxexp)
    return _Quantized((x * (1 / scale).astype(x.dtype)).astype(dtype), scale)


def _noise(shape: tuple[int, ...], seed: jax.Array) -> jax.Array:
    """Uniform on [0, 1) in steps of 2^-23, by the position in [B, T, ...] and the seed alone.

    A hash of a hash of the seed and the place in [B, T] and one of the place on the other axes:
    over seeds every element is exactly uniform, for a tenth of the work of a generator's rounds.
    """
    rows, columns = shape[:2], shape[2:]
    row = lax.iota(jnp.uint32, math.prod(rows)).reshape(*rows, *(1 for _ in columns))
    for word in seed:
        row = _mix(row ^ word)
    column = _mix(lax.iota(jnp.uint32, math.prod(columns)).reshape(columns) + jnp.uint32(1))
    mantissa = _mix(row ^ column) >> 9
    return lax.bitcast_convert_type(mantissa | jnp.uint32(0x3F800000), jnp.float32) - 1


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: a bijection of uint32 in which every bit depends on every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _product(
    left: _Quantized,
    right: _Quantized,
    contract: tuple[Dimensions, Dimensions],
    dtype: jnp.dtype,
    batch: Dimensions = (),
) -> jax.Array:
    """The product of two quantised tensors in their own format, its result in `dtype`."""
    accumulated = lax.dot_general(
        left.values,
        right.values,
        (contract, (batch, batch)),
        preferred_element_type=jnp.int32 if left.values.dtype == jnp.int8 else jnp.float32,
    )
    left_scale = lax.squeeze(left.scale, contract[0])
    right_scale = lax.squeeze(right.scale, contract[1])
    left_free, right_free = (scale.ndim - len(batch) for scale in (left_scale, right_scale))
    left_scale = lax.expand_dims(left_scale, range(-right_free, 0))
    right_scale = lax.expand_dims(right_scale, range(len(batch), len(batch) + left_free))
    return (accumulated.astype(jnp.float32) * left_scale * right_scale).astype(dtype)


def _gathered(kernel: _Quantized, axes: Axes) -> _Quantized:
    """The whole of it on every device; held to `axes` first, so that quantised is what travels.

    The barrier keeps the compiler from gathering it in the layout of the stacked kernel that it was
    cut from, which the matmul would have to undo.
    """
    pieces = lax.optimization_barrier(partitioning.constrain(kernel.values, axes))
    values = partitioning.replicate(pieces)
    return _Quantized(values, partitioning.replicate(kernel.scale))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _matmul(
    arithmetic: _Arithmetic,
    axes: Axes,
    contracted: int,
    x: jax.Array,
    kernel: jax.Array,
    seed: jax.Array | None,
) -> jax.Array:
    """x [B, T, K...] times kernel [K..., M...], which lies as `axes` say; K... are `contracted`."""
    del seed
    over = _last(x, contracted), _first(contracted)
    gathered = _gathered(arithmetic.kernel(kernel, over[1]), axes)
    return _product(arithmetic.activation(x, over[0]), gathered, over, x.dtype)


_Residuals = tuple[jax.Array, jax.Array, jax.Array | None]


def _matmul_forward(
    arithmetic: _Arithmetic, axes: Axes, contracted: int, *operands: Any
) -> tuple[jax.Array, _Residuals]:
    return _matmul(arithmetic, axes, contracted, *operands), operands


def _matmul_backward(
    arithmetic: _Arithmetic, axes: Axes, contracted: int, residuals: _Residuals, g: jax.Array
) -> tuple[jax.Array, jax.Array, np.ndarray | None]:
    """Both gradients: the operands are quantised anew, over the axes that are contracted now."""
    x, kernel, seed = residuals
    kept = kernel.ndim - contracted
    over = _last(g, kept), _last(kernel, kept)
    gathered = _gathered(arithmetic.kernel(kernel, over[1]), axes)
    x_gradient = _product(arithmetic.gradient(g, over[0], seed), gathered, over, x.dtype)

    positions = tuple(range(1, x.ndim - contracted))
    kernel_gradient = _kernel_gradient(
        arithmetic.activation(x, positions),
        arithmetic.gradient(g, positions, seed),
        (axes[:contracted], axes[contracted:]),
        kernel.dtype,
    )
    no_gradient = None if seed is None else np.zeros(seed.shape, jax.dtypes.float0)
    return x_gradient, kernel_gradient, no_gradient


def _kernel_gradient(
    x: _Quantized, g: _Quantized, axes: tuple[Axes, Axes], dtype: jnp.dtype
) -> jax.Array:
    """The gradient [K..., M...] of x [B, T, K...] and g [B, T, M...], scattered to where it lies.

    Each sequence is a product of its own with its own scales; they are added in `dtype`, so that
    neither a maximum nor an int32 sum crosses the wire.
    """
    if partitioning.is_sharded(axes[1][-1]) and not partitioning.is_sharded(axes[0][0]):
        # What is scattered must lead: where it would cut within rows, XLA adds up the whole.
        flipped = _kernel_gradient(g, x, axes[::-1], dtype)
        return lax.transpose(flipped, _last(flipped, len(axes[0])) + _first(len(axes[1])))
    positions = tuple(range(1, x.values.ndim - len(axes[0])))
    per_sequence = _product(x, g, (positions, positions), dtype, batch=(0,))
    return partitioning.constrain(lax.reduce_sum(per_sequence, (0,)), axes[0] + axes[1])


_matmul.defvjp(_matmul_forward, _matmul_backward)
