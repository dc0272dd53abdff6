"""Number formats of the decoder's matmuls: as they come, int8, and fp8.

A tensor enters a matmul only in its format, forward and in both backward products. Nothing is
stored between steps: every scale comes from the tensors at hand.

Non-finite values make the scale they share non-finite, and so every result it touches: they surface
and are never clipped away. A channel whose largest magnitude is below 2^-100 (zeros, denormals) is
scaled as if it were 2^-100, so zeros stay zeros and nothing is divided by zero.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from models.shared.settings import Quantization

Dimensions = tuple[int, ...]

_SMALLEST = 2.0**-100
_ACCUMULATORS = {
    jnp.dtype(jnp.int8): jnp.int32,
    jnp.dtype(jnp.float8_e4m3fn): jnp.float32,
    jnp.dtype(jnp.float8_e5m2): jnp.float32,
}


class Quantized(NamedTuple):
    """values * scale stands for a tensor; scale is float32, 1 long on every axis it is shared.

    Without a scale the values are the tensor.
    """

    values: jax.Array
    scale: jax.Array | None


def first(count: int) -> Dimensions:
    """The first `count` axes."""
    return tuple(range(count))


def last(x: jax.Array, count: int) -> Dimensions:
    """The last `count` axes of x."""
    return tuple(range(x.ndim - count, x.ndim))


class Format(Protocol):
    """How the operands of one product are brought into its format.

    `over` are the axes that the product contracts.
    """

    @property
    def requantizes(self) -> bool:
        """Whether a tensor is quantised anew where another product contracts other axes of it."""
        ...

    def activation(self, x: jax.Array, over: Dimensions) -> Quantized:
        """x [B, T, ...], of the forward pass."""
        ...

    def kernel(self, kernel: jax.Array, over: Dimensions) -> Quantized:
        """A layer's kernel, as it lies."""
        ...

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> Quantized:
        """g [B, T, ...], of the backward pass; dithered by `seed` where the format knows how."""
        ...


@dataclass(frozen=True)
class Exact:
    """The tensors as they come."""

    requantizes: ClassVar[bool] = False

    def activation(self, x: jax.Array, over: Dimensions) -> Quantized:
        return Quantized(x, None)

    def kernel(self, kernel: jax.Array, over: Dimensions) -> Quantized:
        return Quantized(kernel, None)

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> Quantized:
        return Quantized(g, None)


@dataclass(frozen=True)
class Int8:
    """Symmetric int8, one scale per channel: shared `over` the contracted axes only.

    To nearest, absmax stands at 127.5 and is clipped to 127, as in the reference. Stochastically it
    stands at 127: clipping would bias the largest value of every channel.
    """

    requantizes: bool  # as in the reference

    def activation(self, x: jax.Array, over: Dimensions) -> Quantized:
        return self._to_nearest(x, over)

    def kernel(self, kernel: jax.Array, over: Dimensions) -> Quantized:
        return self._to_nearest(kernel, over)

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> Quantized:
        if seed is None:
            return self._to_nearest(g, over)
        largest = _absmax(g, over)
        values = jnp.floor(g.astype(jnp.float32) * (127 / largest) + _noise(g.shape, seed))
        return Quantized(_int8(values), largest / 127)

    def _to_nearest(self, x: jax.Array, over: Dimensions) -> Quantized:
        largest = _absmax(x, over)
        values = jnp.round(x.astype(jnp.float32) * (127.5 / largest))  # half to even
        return Quantized(_int8(values), largest / 127.5)


@dataclass(frozen=True)
class Fp8:
    """e4m3 activations and kernels, e5m2 gradients; one scale per sequence or kernel.

    The reference takes its scales from the largest values of the last 1,024 steps, which costs
    state (and arrays in the checkpoint), lets a sudden outlier overflow, and leaves the first step
    unscaled. Here the scale is the current tensor's, which costs a pass over it. A power of two,
    it rounds nothing: all the error is the format's own. One per sequence, not per batch, so that
    no device waits for another's maximum.
    """

    requantizes: ClassVar[bool] = False

    def activation(self, x: jax.Array, over: Dimensions) -> Quantized:
        return _float8(x, last(x, x.ndim - 1), jnp.float8_e4m3fn)

    def kernel(self, kernel: jax.Array, over: Dimensions) -> Quantized:
        return _float8(kernel, first(kernel.ndim), jnp.float8_e4m3fn)

    def gradient(self, g: jax.Array, over: Dimensions, seed: jax.Array | None) -> Quantized:
        return _float8(g, last(g, g.ndim - 1), jnp.float8_e5m2)


def number_format(quantization: Quantization, use_fwd_quant: bool) -> Format:
    """The format of that name."""
    if quantization == "int8":
        return Int8(requantizes=not use_fwd_quant)
    return Fp8() if quantization == "fp8" else Exact()


def _absmax(x: jax.Array, over: Dimensions) -> jax.Array:
    largest = jnp.max(jnp.abs(x), over, keepdims=True).astype(jnp.float32)
    return jnp.maximum(largest, _SMALLEST)


def _int8(values: jax.Array) -> jax.Array:
    return jnp.clip(values, -127, 127).astype(jnp.int8)


def _float8(x: jax.Array, over: Dimensions, dtype: jnp.dtype) -> Quantized:
    """x in `dtype`, its largest magnitude in the format's last full octave."""
    octave = lax.bitcast_convert_type(_absmax(x, over), jnp.uint32) & jnp.uint32(0x7F800000)
    scale = lax.bitcast_convert_type(octave, jnp.float32) * 2.0 ** (2 - jnp.finfo(dtype).maxexp)
    return Quantized((x * (1 / scale).astype(x.dtype)).astype(dtype), scale)


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
    mantissa = _mix(row ^ column[None, None]) >> 9
    return lax.bitcast_convert_type(mantissa | jnp.uint32(0x3F800000), jnp.float32) - 1


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: a bijection of uint32 in which every bit depends on every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def absorb(
    g: jax.Array, other: Quantized, shared: tuple[Dimensions, Dimensions], contracted: Dimensions
) -> tuple[jax.Array, Quantized]:
    """g and `other` with a scale that the contraction would cross multiplied into g instead.

    `shared` are the axes of g and those of `other` that they meet on, `contracted` such of `other`.
    """
    if other.scale is None or all(other.scale.shape[axis] == 1 for axis in contracted):
        return g, other
    shape = [1] * g.ndim
    for axis, others in zip(*shared, strict=True):
        shape[axis] = other.scale.shape[others]
    return g.astype(jnp.float32) * other.scale.reshape(shape), Quantized(other.values, None)


def product(
    left: Quantized,
    right: Quantized,
    contract: tuple[Dimensions, Dimensions],
    dtype: jnp.dtype,
    batch: Dimensions = (),
) -> jax.Array:
    """The product of two tensors in one format, its result in `dtype`."""
    result = lax.dot_general(
        left.values,
        right.values,
        (contract, (batch, batch)),
        preferred_element_type=_ACCUMULATORS.get(left.values.dtype),
    )
    left_free, right_free = (
        tensor.values.ndim - len(axes) - len(batch)
        for tensor, axes in zip((left, right), contract, strict=True)
    )
    if left.scale is not None:
        scale = lax.squeeze(left.scale, contract[0])
        result = result.astype(jnp.float32) * lax.expand_dims(scale, range(-right_free, 0))
    if right.scale is not None:
        scale = lax.squeeze(right.scale, contract[1])
        after = range(len(batch), len(batch) + left_free)
        result = result.astype(jnp.float32) * lax.expand_dims(scale, after)
    return result.astype(dtype)
