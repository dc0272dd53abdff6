"""Values that depend on how many numbers an array holds alone: what it is called plays no part.

Two models that are the same compute the same function of them, under whatever names; also where one
folds axes that the other keeps apart, or takes a square matrix transposed, since an array of as
many numbers as a square has is symmetric when it is laid out as one.
"""

import math
from collections.abc import Collection, Mapping

import numpy as np

from models.pairing.layouts import Shape
from models.pairing.partners import kind

# What every layout of an array leaves as it is: the value of all that is still to be laid out.
SAME = 0.05
_VECTORS = ("bias", "scale", "mean", "var")  # whatever their axes
_MATRICES = ("kernel", "embedding")


def of(
    arrays: Mapping[str, np.ndarray], same: Collection[str] = (), by_start: bool = False
) -> dict[str, np.ndarray]:
    """Values for arrays of these types and shapes; those of `same` hold one number.

    A bias, a norm's scale and whatever has one axis get numbers around 0.7, others those of a
    matrix. Two models may not agree in that, who call one thing otherwise: by_start tells them
    apart by the fresh model's arrays instead, whether they hold one number. What is not of floating
    point stays.
    """
    return {
        path: array
        if not np.issubdtype(array.dtype, np.floating) and "float" not in str(array.dtype)
        else np.full(array.shape, SAME, array.dtype)
        if path in same
        else _numbers(array.shape, _is_vector(path, array, by_start)).astype(array.dtype)
        for path, array in arrays.items()
    }


def _is_vector(path: str, array: np.ndarray, by_start: bool) -> bool:
    if array.ndim < 2:
        return True
    name = kind(path)
    if by_start and name not in _MATRICES:
        return bool((array == array.flat[0]).all())
    return name in _VECTORS


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
