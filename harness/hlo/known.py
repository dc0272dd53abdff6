"""Integers and conditions that are known without running, at all executions at once."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.hlo.parse import Instruction

Array = np.ndarray[Any, np.dtype[Any]]

_MOST = 2**16  # numbers in one array: what decides a branch is small, what is computed need not be
_TYPES: dict[str, type[np.generic]] = {
    "pred": np.bool_,
    **{f"s{bits}": getattr(np, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32)},
}
_COMPARISONS: dict[str, Callable[..., Array]] = {
    "EQ": np.equal,
    "NE": np.not_equal,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
}
_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "negate": np.negative,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "select": np.where,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
}
_COMMENT = re.compile(r"/\*.*?\*/")
_BOUNDS = re.compile(r"\[([\d:]+)\]")
_RESHAPED = ("reshape", "convert")


@dataclass(frozen=True, eq=False)
class Known:
    """What an integer or a condition is, or an array of them, at each execution of a computation.

    values: [executions, *dimensions]; [1, *dimensions] when it is the same each time.
    """

    values: Array


def evaluate(instruction: Instruction, operands: Sequence[Array | None]) -> Array | None:
    """The result of one operation, as `Known.values`; None where it cannot be told."""
    dtype = _TYPES.get(instruction.shape.dtype)
    dimensions = instruction.shape.dimensions
    if dtype is None or not 0 < math.prod(dimensions) <= _MOST:
        return None
    told = [operand for operand in operands if operand is not None]
    if len(told) < len(operands) or _executions(told) * math.prod(dimensions) > _MOST:
        return None
    found = _result(instruction, told)
    # Cast last: integers wrap around as the device's do.
    return None if found is None else found.reshape(-1, *dimensions).astype(dtype)


def counted(first: Array, step: int, trips: int, times: int) -> Array | None:
    """A loop's counter at each trip, when the loop runs so many times and begins with `first`."""
    if times * trips > _MOST:
        return None
    begins: Array = np.broadcast_to(first, (times,))
    return (begins[:, None] + step * np.arange(trips)).reshape(-1)


def repeated(values: Array, trips: int) -> Array | None:
    """The same at each trip of a loop as where it begins."""
    return None if values.size * trips > _MOST else np.repeat(values, trips, axis=0)


def takers(selector: Array, branches: int, times: int) -> list[Array]:
    """For each branch of a conditional, at which of its executions it is taken."""
    chosen: Array = np.broadcast_to(selector, (times,))
    if chosen.dtype == np.bool_:
        chosen = np.where(chosen, 0, 1)  # the first branch is that for true
    chosen = np.where((chosen >= 0) & (chosen < branches), chosen, branches - 1)
    return [chosen == branch for branch in range(branches)]


def _result(instruction: Instruction, operands: list[Array]) -> Array | None:
    dimensions, opcode = instruction.shape.dimensions, instruction.opcode
    if opcode in _ELEMENTWISE:
        return _ELEMENTWISE[opcode](*_aligned(operands))
    match opcode:
        case "constant":
            return _constant(instruction.literal, math.prod(dimensions))
        case "iota":
            axis = _numbers(instruction.attributes["iota_dimension"])[0]
            return np.indices(dimensions)[axis]
        case "compare":
            return _COMPARISONS[instruction.attributes["direction"]](*_aligned(operands))
        case "divide" | "remainder":
            return _divided(opcode, *_aligned(operands))
        case "bitcast":  # may also permute, unless all numbers lie along one axis
            return operands[0] if sum(size > 1 for size in dimensions) < 2 else None
        case "broadcast":
            kept = _numbers(instruction.attributes["dimensions"])
            spread = [size if axis in kept else 1 for axis, size in enumerate(dimensions)]
            aligned = operands[0].reshape(-1, *spread)
            return np.broadcast_to(aligned, (len(aligned), *dimensions))
        case "slice":
            bounds = _BOUNDS.findall(instruction.attributes["slice"])
            return operands[0][:, *(slice(*map(int, part.split(":"))) for part in bounds)]
        case "dynamic-slice":
            return _looked_up(dimensions, *operands)
    return operands[0] if opcode in _RESHAPED else None


def _constant(literal: str, size: int) -> Array | None:
    """The numbers written out; None where they are elided."""
    words = re.findall(r"true|false|-?\d+", _COMMENT.sub("", literal))
    if len(words) != size:
        return None
    named = {"true": 1, "false": 0}
    return np.array([named[word] if word in named else int(word) for word in words])


def _divided(opcode: str, dividend: Array, divisor: Array) -> Array | None:
    """Rounded towards zero, as XLA divides."""
    if not divisor.all():
        return None
    if opcode == "remainder":
        return np.fmod(dividend, divisor)
    whole: Array = np.abs(dividend) // np.abs(divisor)
    return np.where((dividend < 0) == (divisor < 0), whole, -whole)


def _looked_up(sizes: tuple[int, ...], table: Array, *starts: Array) -> Array:
    """Pieces of these sizes from the table [executions, ...], held within it as XLA holds them."""
    rows = _executions([table, *starts])
    found = np.empty((rows, *sizes), table.dtype)
    for row in range(rows):
        source = table[row % len(table)]
        firsts = (int(start[row % len(start)]) for start in starts)
        held = (
            max(0, min(first, whole - size))
            for first, whole, size in zip(firsts, source.shape, sizes, strict=True)
        )
        found[row] = source[
            tuple(slice(at, at + size) for at, size in zip(held, sizes, strict=True))
        ]
    return found


def _executions(arrays: Sequence[Array]) -> int:
    return next((len(array) for array in arrays if len(array) != 1), 1)


def _aligned(arrays: Sequence[Array]) -> list[Array]:
    """With trailing axes added to scalars, so that executions face executions."""
    most = max(array.ndim for array in arrays)
    return [array.reshape(*array.shape, *[1] * (most - array.ndim)) for array in arrays]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
