"""What is known of values without running: counters, conditions, and where data come from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Union

from harness.hlo.parse import Computation, Instruction


@dataclass(frozen=True)
class Element:
    """An element of a loop's state as a trip finds it, plus an offset if it is an integer."""

    path: tuple[int, ...] = ()
    offset: int = 0


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


# A tuple is followed element by element; None is a constant array.
Value = Union[int, Element, Argument, Comparison, tuple["Value", ...], None]  # noqa: UP007
UNKNOWN = Argument("")

_SAME_VALUE = ("copy", "bitcast", "convert", "reshape", "copy-done")
_INTEGERS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "minimum": min,
    "maximum": max,
}


def result(computation: Computation, instruction: Instruction, operands: list[Value]) -> Value:
    """The value of an operation that calls no computation."""
    opcode = instruction.opcode
    if opcode == "tuple":
        return tuple(operands)
    if opcode == "get-tuple-element":
        return at(operands[0], (int(instruction.attributes["index"]),))
    if opcode in ("opt-barrier", "copy-start"):
        return operands[0]
    if opcode == "compare":
        return Comparison(instruction.attributes["direction"], operands[0], operands[1])
    if opcode in _SAME_VALUE and isinstance(operands[0], Comparison):
        return operands[0]
    if instruction.shape.is_index:
        return _integer(instruction, operands)
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
    return initial if after == Element(path) else UNKNOWN


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
        elif isinstance(value, Element) and not value.offset:
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


def _integer(instruction: Instruction, operands: list[Value]) -> Value:
    opcode = instruction.opcode
    if opcode == "constant":
        literal = instruction.literal.strip()
        return int(literal) if literal.lstrip("-").isdigit() else UNKNOWN
    if opcode in _SAME_VALUE:
        return operands[0]
    if opcode not in _INTEGERS:
        return UNKNOWN
    match opcode, operands[0], operands[1]:
        case _, int(left), int(right):
            return _INTEGERS[opcode](left, right)
        case "add", (Element() as element), int(step):
            return replace(element, offset=element.offset + step)
        case "add", int(step), (Element() as element):
            return replace(element, offset=element.offset + step)
        case "subtract", (Element() as element), int(step):
            return replace(element, offset=element.offset - step)
    return UNKNOWN


def _leaves(value: Value) -> set[Value]:
    if isinstance(value, tuple):
        return {leaf for element in value for leaf in _leaves(element)}
    return {None if isinstance(value, int | Comparison) else value}
