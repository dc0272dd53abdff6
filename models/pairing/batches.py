"""A user's batch: called as it wants to be called, and looked at before anything takes it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from models.pairing.sides import PairFault, takes

_NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


def checked(
    make: Callable[..., Any], rng: np.random.Generator, size: int, arguments: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The arrays of `size` examples, in the types that JAX computes in.

    Raises PairFault for what are no arrays of so many examples.
    """
    wanted = {name: value for name, value in arguments.items() if takes(make, name)}
    with jax.ensure_compile_time_eval():  # also where a model is only being traced
        made = make(rng, size, **wanted)
        arrays = {str(name): np.asarray(one) for name, one in _named(made).items()}
    for name, array in arrays.items():
        if array.dtype == object or array.dtype.kind in "USV":
            raise PairFault(f"batch: {name!r} is not an array of numbers")
        if array.ndim == 0 or len(array) != size:
            shape = list(array.shape)
            raise PairFault(f"batch: {name!r} is {shape}; must have {size} examples along axis 0")
    return {
        name: array.astype(_NARROW.get(str(array.dtype), array.dtype))
        for name, array in arrays.items()
    }


def _named(made: Any) -> Mapping[str, Any]:
    if not isinstance(made, Mapping) or not made:
        raise PairFault(f"batch returns a {type(made).__name__}; must be a dict of arrays by name")
    return made
