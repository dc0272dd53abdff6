"""Digests of arrays: equal digests mean equal bits, however the arrays lie on the devices.

An array's digest is two sums of 32-bit integers, over all its elements, of a hash of the element's
bits and of its place in the whole array. Sums of integers do not care in which order, or on how
many devices, they are taken. One changed element always changes the digest, for at a given place
the hash is a bijection of the bits; any other change goes unseen once in 2**64.
"""

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from models.shared.trees import named_leaves

Digests = dict[str, str]  # by path, such as "float32[64,2]:0123456789abcdef"

_UNSIGNED = {1: "uint8", 2: "uint16", 4: "uint32"}  # by the bytes of one element
_ELEMENTS_AT_ONCE = 2**16  # what the host hashes at a time stays in its caches


def array_digests(state: Any) -> Digests:
    """A digest for every array of a tree; it also tells the array's type and shape.

    The arrays lie on the devices of a mesh, or are numpy's. Of several processes all must call this
    at the same point. Raises ValueError for elements of other than 1, 2 or 4 bytes.
    """
    arrays = named_leaves(state)
    for path, array in arrays.items():
        if array.dtype.itemsize not in _UNSIGNED:
            raise ValueError(f"{path}: no digest of {array.dtype}: must be 1, 2 or 4 bytes each")
    digest = _on_host if _is_seen_by_host(arrays) else _on_devices
    lanes = digest(list(arrays.values())).tolist()
    return {
        path: f"{array.dtype}[{','.join(map(str, array.shape))}]:{first:08x}{second:08x}"
        for (path, array), (first, second) in zip(arrays.items(), lanes, strict=True)
    }


def prepare(state: Any) -> None:
    """Compiles what `array_digests` of these arrays will need."""
    arrays = named_leaves(state)
    if not _is_seen_by_host(arrays):
        _program(tuple(map(_abstract, arrays.values())))


def combined(digests: Mapping[str, str]) -> str:
    """The sha256 over all digests and their paths, in the order of the paths."""
    lines = (f"{path} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_seen_by_host(arrays: Mapping[str, Any]) -> bool:
    """Whether numpy can read the arrays where they lie, which saves a second of compiling."""
    return all(
        device.platform == "cpu"
        for array in arrays.values()
        if not isinstance(array, np.ndarray)
        for device in array.sharding.device_set
    )


def _on_devices(arrays: list[jax.Array]) -> np.ndarray:
    """The lanes [arrays, 2], computed where the arrays lie: only sums travel."""
    return np.asarray(_program(tuple(map(_abstract, arrays)))(arrays))


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.format)


@functools.cache
def _program(arrays: tuple[jax.ShapeDtypeStruct, ...]) -> jax.stages.Compiled:
    everywhere = NamedSharding(arrays[0].sharding.mesh, PartitionSpec())
    return jax.jit(_all_lanes, out_shardings=everywhere).lower(list(arrays)).compile()


def _all_lanes(arrays: list[jax.Array]) -> jax.Array:
    return jnp.stack([_lanes_on_devices(array) for array in arrays])


@jax.jit  # arrays of one shape share one trace
def _lanes_on_devices(array: jax.Array) -> jax.Array:
    words = jax.lax.bitcast_convert_type(array, _UNSIGNED[array.dtype.itemsize])
    return _lanes(words, [0] * array.ndim, array.shape, jnp)


def _on_host(arrays: list[Any]) -> np.ndarray:
    """The lanes [arrays, 2]; each process reads the parts that it holds."""
    lanes = np.stack([_lanes_on_host(array) for array in arrays])
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        lanes = multihost_utils.process_allgather(lanes).sum(axis=0, dtype=np.uint32)
    return lanes


def _lanes_on_host(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array):
        parts = [
            (np.asarray(shard.data), [axis.start or 0 for axis in shard.index])
            for shard in array.addressable_shards
            if shard.replica_id == 0
        ]
    else:
        parts = [(array, [0] * array.ndim)]
    lanes = np.zeros(2, np.uint32)
    for part, starts in parts:
        words = np.ascontiguousarray(part).view(_UNSIGNED[part.dtype.itemsize])
        if part.ndim == 0:
            return lanes + _lanes(words, [], (), np)
        rows = max(1, _ELEMENTS_AT_ONCE // max(1, math.prod(part.shape[1:])))
        for row in range(0, len(words), rows):
            chunk = words[row : row + rows]
            lanes += _lanes(chunk, [starts[0] + row, *starts[1:]], array.shape, np)
    return lanes


def _lanes(words: Any, starts: Sequence[int], shape: Sequence[int], xp: Any) -> Any:
    """The lanes [2] of the part of an array of `shape` that begins at `starts`.

    `xp` is numpy or jax.numpy; uint32 wraps around in both. Elements are counted modulo 2**32.
    """
    place = xp.ones([1] * max(1, len(shape)), xp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        along = xp.arange(words.shape[axis], dtype=xp.uint32) + xp.uint32(starts[axis])
        along = along * xp.uint32(stride % 2**32)
        place = place + along.reshape([1] * axis + [-1] + [1] * (len(shape) - 1 - axis))
        stride *= shape[axis]
    first = _mix(words.astype(xp.uint32) ^ _mix(place, xp), xp)
    second = _mix(first + xp.uint32(0x9E3779B9), xp)
    return xp.stack([first.sum(dtype=xp.uint32), second.sum(dtype=xp.uint32)])


def _mix(words: Any, xp: Any) -> Any:
    """A bijection in which every bit in changes half of the bits out (MurmurHash3's fmix32)."""
    words = (words ^ (words >> 16)) * xp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * xp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
