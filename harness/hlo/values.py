"""What is known of values without running: counters, conditions, and where data come from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Union

import numpy as np

from harness.hlo.known import Array, Known, counted, evaluate, repeated
from harness.hlo.parse import Computation, Instruction


@dataclass(frozen=True)
class Element:
    """An element of a loop's state as a trip finds it, plus an offset if it is an integer.

    made_of: not the element itself, but whatever is computed from it and constants alone.
    """

    path: tuple[int, ...] = ()
    offset: int = 0
    made_of: bool = False


@dataclass(frozen=True)
class Argument:
    """Whatever is computed from this argument of the program alone."""

    name: str


@dataclass(frozen=True)
class Comparison:
    """The result of a compare."""

    direction: str
    left: "Value"
    right: "Value"


# A tuple is followed element by element; None is a constant array that is not looked into.
Value = Union[  # noqa: UP007
    int, Known, Element, Argument, Comparison, tuple["Value", ...], None
]
UNKNOWN = Argument("")

_UNTOUCHED = ("opt-barrier", "copy", "copy-start", "copy-done")
_SAME_INTEGER = ("bitcast", "convert", "reshape")


def result(computation: Computation, instruction: Instruction, operands: list[Value]) -> Value:
    """The value of an operation that calls no computation."""
    opcode = instruction.opcode
    if opcode == "tuple":
        return tuple(operands)
    if opcode == "get-tuple-element":
        return at(operands[0], (int(instruction.attributes["index"]),))
    if opcode in _UNTOUCHED:
        return operands[0]
    told = evaluate(instruction, [numbers(operand) for operand in operands])
    if told is not None:
        return of_numbers(told)
    if opcode == "compare":
        return Comparison(instruction.attributes["direction"], operands[0], operands[1])
    if opcode in _SAME_INTEGER and isinstance(operands[0], Comparison):
        return operands[0]
    if instruction.shape.is_index:
        return _moved(instruction, operands)
    return origin(computation, instruction, operands)


def origin(computation: Computation, instruction: Instruction, operands: list[Value]) -> Value:
    """The one argument or loop element from which all arrays among the operands come.

    Indices do not count: a slice of an array comes from that array.
    """
    sources: set[Value] = set()
    for operand, value in zip(computation.operands(instruction), operands, strict=True):
        if not operand.shape.is_index:
            sources |= _leaves(value)
    sources.discard(None)
    if not sources:
        return None
    return sources.pop() if len(sources) == 1 else UNKNOWN


def unchanged(after: Value, initial: Value, path: tuple[int, ...] = ()) -> Value:
    """A loop's state as every trip finds it: what the body changes is unknown."""
    if isinstance(after, tuple):
        return tuple(
            unchanged(value, at(initial, (index,)), (*path, index))
            for index, value in enumerate(after)
        )
    if after == Element(path, made_of=True):
        return _origin(initial)
    return initial if after == Element(path) else UNKNOWN


def at_each_trip(
    after: Value, initial: Value, trips: int, times: int, path: tuple[int, ...] = ()
) -> Value:
    """A loop's state at all its trips, of all `times` that it runs: kept, counted, or unknown."""
    if isinstance(after, tuple):
        return tuple(
            at_each_trip(value, at(initial, (index,)), trips, times, (*path, index))
            for index, value in enumerate(after)
        )
    first = numbers(initial)
    if (
        isinstance(after, Element)
        and after == Element(path, after.offset or 1)
        and first is not None
    ):
        told = counted(first, after.offset, trips, times)
        return UNKNOWN if told is None else of_numbers(told)
    return _varying(unchanged(after, initial, path), lambda values: repeated(values, trips))


def where_taken(value: Value, taken: Array) -> Value:
    """What a branch is given, at those executions of its conditional at which it is taken."""
    return _varying(value, lambda values: values[taken])


def numbers(value: Value) -> Array | None:
    """The value at each execution, as `Known.values`, if it is an integer or an array of them."""
    if isinstance(value, int):
        return np.array([value])
    return value.values if isinstance(value, Known) else None


def of_numbers(told: Array) -> Value:
    """The value that these are: one integer, or what changes or has dimensions."""
    return int(told[0]) if told.shape == (1,) and told.dtype != np.bool_ else Known(told)


def trip_count(continues: Value, initial: Value, after: Value) -> int | None:
    """How often the condition `continues` holds when a trip turns `initial` into `after`.

    Known when it compares two integers of which each is constant or moves by a constant step.
    """
    if not isinstance(continues, Comparison):
        return None
    left, right = (_progress(side, initial, after) for side in (continues.left, continues.right))
    if left is None or right is None:
        return None
    distance, step = left[0] - right[0], left[1] - right[1]
    direction = continues.direction
    if direction in ("GT", "GE"):
        distance, step, direction = -distance, -step, {"GT": "LT", "GE": "LE"}[direction]
    if direction == "LE":
        distance, direction = distance - 1, "LT"
    if direction == "LT" and distance >= 0:
        return 0
    if direction == "LT":
        return math.ceil(-distance / step) if step > 0 else None
    if direction == "NE" and step and distance % step == 0 and -distance // step >= 0:
        return -distance // step
    return None


def at(value: Value, path: tuple[int, ...]) -> Value:
    """The element of a tuple at `path`."""
    for index in path:
        if isinstance(value, tuple):
            value = value[index]
        elif isinstance(value, Element) and not value.offset and not value.made_of:
            value = Element((*value.path, index))
        else:
            return UNKNOWN
    return value


def _progress(value: Value, initial: Value, after: Value) -> tuple[int, int] | None:
    """The first value and the step of one side of a loop's condition."""
    if isinstance(value, int):
        return value, 0
    if not isinstance(value, Element):
        return None
    first, then = at(initial, value.path), at(after, value.path)
    if isinstance(first, int) and isinstance(then, Element) and then.path == value.path:
        return first + value.offset, then.offset
    return None


def _moved(instruction: Instruction, operands: list[Value]) -> Value:
    """An integer of a loop's state, plus or minus a constant."""
    opcode = instruction.opcode
    if opcode in _SAME_INTEGER:
        return operands[0]
    match opcode, operands:
        case "add", [Element() as element, int(step)] | [int(step), Element() as element]:
            return replace(element, offset=element.offset + step)
        case "subtract", [Element() as element, int(step)]:
            return replace(element, offset=element.offset - step)
    return UNKNOWN


def _varying(value: Value, change: Callable[[Array], Array | None]) -> Value:
    """The value with what is not the same at each execution changed."""
    if isinstance(value, tuple):
        return tuple(_varying(element, change) for element in value)
    if not isinstance(value, Known) or len(value.values) == 1:
        return value
    told = change(value.values)
    return UNKNOWN if told is None else of_numbers(told)


def _leaves(value: Value) -> set[Value]:
    if isinstance(value, tuple):
        return {leaf for element in value for leaf in _leaves(element)}
    return {_origin(value)}


def _origin(value: Value) -> Value:
    """Where a single value comes from, without what it is; None: from constants alone."""
    if isinstance(value, Element):
        return replace(value, made_of=True)
    return None if isinstance(value, int | Known | Comparison) else value
