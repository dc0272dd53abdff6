"""int8 and fp8 matmuls: the `dot_general` that both twins hand to their seven projections.

A kernel arrives as it lies, in pieces. It is quantised piece by piece and gathered as int8 or
float8; of every tensor only the quantised form enters a matmul, forward and in both backward
products. Nothing is stored between steps: every scale comes from the tensors at hand.

Non-finite values make the scale they share non-finite, and so every result it touches: they surface
and are never clipped away. A channel whose largest magnitude is below 2^-100 (zeros, denormals) is
scaled as if it were 2^-100, so zeros stay zeros and nothing is divided by zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models import partitioning
from models.ops import Site
from models.partitioning import Axes

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

    `axes` are the logical axes of the kernel of one layer; of those that are contracted, and of
    those that are not, only the first may be sharded. `site` keeps the rounding noise of a layer's
    matmuls apart.
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
        kept = lhs.ndim - contracted
        if dimension_numbers != _dimension_numbers(kept, contracted) or kept < 2:
            raise ValueError(
                f"dimension_numbers={dimension_numbers}: a quantised projection contracts the last"
                " axes of [B, T, ...] with the first of its kernel"
            )
        axes = (self.axes[0], self.axes[contracted])
        K = int(np.prod(rhs.shape[:contracted]))
        x = lhs.reshape(lhs.shape[0], -1, K)  # [B, T, K]
        kernel = partitioning.constrain(rhs.reshape(K, -1), axes)  # [K, M]
        y = _matmul(self._arithmetic(), axes, x, kernel, self._seed())  # [B, T, M]
        return y.reshape(lhs.shape[:kept] + rhs.shape[contracted:])

    def _arithmetic(self) -> "_Arithmetic":
        return _Int8() if self.quantization == "int8" else _Fp8()

    def _seed(self) -> jax.Array | None:
        """The words of the rounding key and the site, where the gradient is to be dithered."""
        if self.quantization != "int8" or not self.stochastic_rounding:
            return None
        try:
            key = _ROUNDING_KEY.get()
        except LookupError:
            raise ValueError("stochastic rounding needs a key: call inside rounding(key)") from None
        return jnp.append(jax.random.key_data(key), jnp.uint32(self.site))


def _dimension_numbers(kept: int, contracted: int) -> lax.DotDimensionNumbers:
    trailing = tuple(range(kept, kept + contracted))
    return (trailing, tuple(range(contracted))), ((), ())


class _Quantized(NamedTuple):
    """values * scale stands for a tensor; scale is float32 and broadcasts."""

    values: jax.Array
    scale: jax.Array

    @property
    def transposed(self) -> "_Quantized":
        return _Quantized(self.values.mT, self.scale.mT)


class _Arithmetic(Protocol):
    """How each operand of a product that contracts `axis` is quantised."""

    def activation(self, x: jax.Array, axis: int) -> _Quantized:
        """x [B, T, K], every sequence on its own."""

    def kernel(self, kernel: jax.Array, axis: int) -> _Quantized:
        """kernel [K, M]."""

    def gradient(self, g: jax.Array, axis: int, seed: jax.Array | None) -> _Quantized:
        """g [B, T, M], every sequence on its own."""


@dataclass(frozen=True)
class _Int8:
    """Symmetric int8, one scale per channel over the contracted axis, accumulated in int32.

    To nearest, absmax stands at 127.5 and is clipped to 127, as in the reference. Stochastically it
    stands at 127: clipping would bias the largest value of every channel.
    """

    def activation(self, x: jax.Array, axis: int) -> _Quantized:
        return self._to_nearest(x, axis)

    def kernel(self, kernel: jax.Array, axis: int) -> _Quantized:
        return self._to_nearest(kernel, axis)

    def gradient(self, g: jax.Array, axis: int, seed: jax.Array | None) -> _Quantized:
        if seed is None:
            return self._to_nearest(g, axis)
        largest = _absmax(g, axis)
        values = jnp.floor(g.astype(jnp.float32) * (127 / largest) + _noise(g.shape, seed))
        return _Quantized(_int8(values), largest / 127)

    def _to_nearest(self, x: jax.Array, axis: int) -> _Quantized:
        largest = _absmax(x, axis)
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

    def activation(self, x: jax.Array, axis: int) -> _Quantized:
        del axis
        return _float8(x, (1, 2), jnp.float8_e4m3fn)

    def kernel(self, kernel: jax.Array, axis: int) -> _Quantized:
        del axis
        return _float8(kernel, (0, 1), jnp.float8_e4m3fn)

    def gradient(self, g: jax.Array, axis: int, seed: jax.Array | None) -> _Quantized:
        del axis, seed
        return _float8(g, (1, 2), jnp.float8_e5m2)


def _absmax(x: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
    largest = jnp.max(jnp.abs(x), axis, keepdims=True).astype(jnp.float32)
    return jnp.maximum(largest, _SMALLEST)


def _int8(values: jax.Array) -> jax.Array:
    return jnp.clip(values, -127, 127).astype(jnp.int8)


def _float8(x: jax.Array, axis: tuple[int, ...], dtype: jnp.dtype) -> _Quantized:
    """x in `dtype`, its largest magnitude in the format's last full octave."""
    octave = lax.bitcast_convert_type(_absmax(x, axis), jnp.uint32) & jnp.uint32(0x7F800000)
    scale = lax.bitcast_convert_type(octave, jnp.float32) * 2.0 ** (2 - jnp.finfo(dtype).maxexp)
    return _Quantized((x * (1 / scale).astype(x.dtype)).astype(dtype), scale)


def _noise(shape: tuple[int, ...], seed: jax.Array) -> jax.Array:
    """Uniform on [0, 1) in steps of 2^-23, by the position in [B, T, M] and the seed alone.

    A hash of the row and the seed, exclusive-or a hash of the column: over seeds every element is
    exactly uniform, elements of one row or column are pairwise uncorrelated on average over
    columns, and the whole costs one operation each where a generator's rounds would cost more than
    the matmul.
    """
    _, T, M = shape
    row = lax.broadcasted_iota(jnp.uint32, (*shape[:2], 1), 0) * jnp.uint32(T)
    row += lax.broadcasted_iota(jnp.uint32, (*shape[:2], 1), 1)
    for word in seed:
        row = _mix(row ^ word)
    column = _mix(lax.broadcasted_iota(jnp.uint32, (1, 1, M), 2) + jnp.uint32(0x9E3779B9))
    mantissa = _mix(row ^ column) >> 9
    return lax.bitcast_convert_type(mantissa | jnp.uint32(0x3F800000), jnp.float32) - 1


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: a bijection of uint32 in which every bit depends on every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _product(left: _Quantized, right: _Quantized, dtype: jnp.dtype) -> jax.Array:
    """left [..., R, C] times right [..., C, S] in their own format, the result in `dtype`."""
    a, b = left.values, right.values
    batch = tuple(range(b.ndim - 2))
    accumulated = lax.dot_general(
        a,
        b,
        (((a.ndim - 1,), (b.ndim - 2,)), (batch, batch)),
        preferred_element_type=jnp.int32 if a.dtype == jnp.int8 else jnp.float32,
    )
    return (accumulated.astype(jnp.float32) * left.scale * right.scale).astype(dtype)


def _gathered(kernel: _Quantized, axes: Axes) -> _Quantized:
    """The whole of it on every device; held to `axes` first, so that quantised is what travels."""
    values = partitioning.replicate(partitioning.constrain(kernel.values, axes))
    return _Quantized(values, partitioning.replicate(kernel.scale))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _matmul(
    arithmetic: _Arithmetic, axes: Axes, x: jax.Array, kernel: jax.Array, seed: jax.Array | None
) -> jax.Array:
    """x [B, T, K] times kernel [K, M], which lies as `axes` say."""
    del seed
    gathered = _gathered(arithmetic.kernel(kernel, 0), axes)
    return _product(arithmetic.activation(x, 2), gathered, x.dtype)


def _matmul_forward(
    arithmetic: _Arithmetic, axes: Axes, x: jax.Array, kernel: jax.Array, seed: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array | None]]:
    return _matmul(arithmetic, axes, x, kernel, seed), (x, kernel, seed)


def _matmul_backward(
    arithmetic: _Arithmetic,
    axes: Axes,
    residuals: tuple[jax.Array, jax.Array, jax.Array | None],
    g: jax.Array,
) -> tuple[jax.Array, jax.Array, np.ndarray | None]:
    """Both gradients: the operands are quantised anew, along the axis that is contracted now."""
    x, kernel, seed = residuals
    gathered = _gathered(arithmetic.kernel(kernel, 1), axes)
    x_gradient = _product(arithmetic.gradient(g, 2, seed), gathered.transposed, x.dtype)
    kernel_gradient = _kernel_gradient(
        arithmetic.activation(x, 1), arithmetic.gradient(g, 1, seed), axes, kernel.dtype
    )
    no_gradient = None if seed is None else np.zeros(seed.shape, jax.dtypes.float0)
    return x_gradient, kernel_gradient, no_gradient


def _kernel_gradient(x: _Quantized, g: _Quantized, axes: Axes, dtype: jnp.dtype) -> jax.Array:
    """The gradient [K, M] of x [B, T, K] and g [B, T, M], each device left with its own part.

    Each sequence is a product of its own with its own scales; they are added in `dtype`, so that
    neither a maximum nor an int32 sum crosses the wire.
    """
    if partitioning.is_sharded(axes[1]):  # what is scattered must lead, or XLA reduces all of it
        return _kernel_gradient(g, x, axes[::-1], dtype).T
    per_sequence = _product(x.transposed, g, dtype)  # [B, K, M]
    return partitioning.constrain(lax.reduce_sum(per_sequence, (0,)), axes)


_matmul.defvjp(_matmul_forward, _matmul_backward)
