"""Random numbers that depend on what is drawn alone, so that equal models draw the same ones.

Whatever key a model uses, by whatever way it came to it, the bits are those of their number: masks
agree then, in whichever order and out of whichever stream two models take them.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

_KEY = jnp.uint32


def _seed(seed: jax.Array) -> jax.Array:
    return jnp.zeros((2,), _KEY)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros((*shape, 2), _KEY)


def _bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    words = jax.lax.iota(_KEY, math.prod(shape)) * _KEY(2654435761) + _KEY(math.prod(shape))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        words = (words ^ (words >> shift)) * _KEY(factor)
    return (words >> max(0, 32 - bit_width)).astype(f"uint{bit_width}").reshape(shape)


def _fold_in(key: jax.Array, data: int) -> jax.Array:
    return key


@functools.cache
def aligned_key() -> jax.Array:
    """A key that, like all that is derived from it, gives as many numbers the same bits."""
    implementation = define_prng_impl(
        key_shape=(2,), seed=_seed, split=_split, random_bits=_bits, fold_in=_fold_in
    )
    return jax.random.key(0, impl=implementation)
