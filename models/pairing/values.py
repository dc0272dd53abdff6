"""Values that depend on how many numbers an array holds alone: what it is called plays no part.

Two models that are the same compute the same function of them, under whatever names; also where one
folds axes that the other keeps apart, or takes a square matrix transposed, since an array of as
many numbers as a square has is symmetric when it is laid out as one.
"""

import math
from collections.abc import Collection, Mapping

import numpy as np

from models.pairing.layouts import Shape

# What every layout of an array leaves as it is: the value of all that is still to be laid out.
SAME = 0.05
_MATRICES = ("kernel", "embedding", "weight", "w")


def of(arrays: Mapping[str, np.ndarray], same: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Values for arrays of these types and shapes; those of `same` hold one number.

    The arrays are a fresh model's: one of a single number (a bias, a norm's scale) gets numbers
    around 0.7, one of several gets those of a matrix. What is not of floating point stays.
    """
    return {
        path: array
        if not np.issubdtype(array.dtype, np.floating) and "float" not in str(array.dtype)
        else np.full(array.shape, SAME, array.dtype)
        if path in same
        else _numbers(array.shape, _is_vector(path, array)).astype(array.dtype)
        for path, array in arrays.items()
    }


def _is_vector(path: str, array: np.ndarray) -> bool:
    if array.ndim > 1 and path.rpartition("/")[2] in _MATRICES:
        return False
    return array.ndim < 2 or bool((array == array.flat[0]).all())


def _numbers(shape: Shape, vector: bool) -> np.ndarray:
    size = math.prod(shape)
    generator = np.random.Generator(np.random.PCG64(size))
    if vector:  # also of a variance, which must not be negative
        return generator.uniform(0.35, 1.05, size).reshape(shape)
    numbers = generator.standard_normal(size) * size**-0.25
    side = math.isqrt(size)
    if side**2 == size:
        square = numbers.reshape(side, side)
        numbers = (square + square.T) / math.sqrt(2)
    found: np.ndarray = numbers.reshape(shape)
    return found
