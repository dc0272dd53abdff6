"""A user's batch: called as it wants to be called, and looked at before anything takes it."""

from collections.abc import Callable, Mapping
from typing import Any

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
    made = make(rng, size, **wanted)
    if not isinstance(made, Mapping) or not made:
        raise PairFault(f"batch returns a {type(made).__name__}; must be a dict of arrays by name")
    arrays = {}
    for name, one in made.items():
        array = np.asarray(one)
        if array.dtype == object or array.dtype.kind in "USV":
            raise PairFault(f"batch: {name!r} is no array of numbers")
        if array.ndim == 0 or len(array) != size:
            shape = list(array.shape)
            raise PairFault(f"batch: {name!r} is {shape}; must have {size} examples along axis 0")
        arrays[str(name)] = array.astype(_NARROW.get(str(array.dtype), array.dtype))
    return arrays
