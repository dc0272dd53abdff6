"""Which buffers of a compiled step fill the device's memory when it is fullest."""

import re
from dataclasses import dataclass
from typing import Union

from harness.hlo import Computation, Instruction, Program
from harness.hlo.parse import Shape, references
from harness.hlo.parts import places

# S(1) and above in a layout are memories inside the core; the device's own has no number.
_INSIDE = re.compile(r"S\([1-9]")
_IN_PLACE = ("bitcast", "opt-barrier", "dynamic-update-slice", "all-reduce", "while")


@dataclass(frozen=True)
class Buffer:
    """A buffer of the program's temporaries: what it holds and where in the model."""

    bytes: int
    shape: str
    where: str


@dataclass(frozen=True)
class Fullest:
    """The moment of the schedule with most bytes in temporaries, and what they are, largest first.

    Counted from the schedule alone, which comes near the peak that the compiler states; its
    temp_size is larger, as it also holds what lies between buffers.
    """

    bytes: int
    where: str
    buffers: tuple[Buffer, ...]


def fullest(program: Program) -> Fullest:
    """The fullest moment of one run of the program."""
    return _Lifetimes(program).fullest(program.entry)


_Leaves = Union[str, None, tuple["_Leaves", ...]]  # noqa: UP007 - the buffer of each array by name


class _Lifetimes:
    """Follows buffers through computations; loops update what they carry in place."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._places = places(program)

    def fullest(self, computation: Computation) -> Fullest:
        """Of one execution, without the buffers that its caller holds."""
        order = list(computation.instructions.values())
        buffers, last_use = self._buffers(computation)
        best = Fullest(0, "", ())
        live: dict[str, Buffer] = {}
        for position, instruction in enumerate(order):
            if instruction.name in buffers:
                live[instruction.name] = buffers[instruction.name]
            inside = self._inside(instruction)
            held = sum(buffer.bytes for buffer in live.values())
            if held + inside.bytes > best.bytes:
                largest = sorted((*live.values(), *inside.buffers), key=lambda b: -b.bytes)
                where = inside.where or self._places[instruction] or instruction.opcode
                best = Fullest(held + inside.bytes, where, tuple(largest))
            live = {name: held for name, held in live.items() if last_use[name] > position}
        return best

    def _inside(self, instruction: Instruction) -> Fullest:
        """The fullest moment within a loop, a call or a branch."""
        if instruction.opcode == "while":
            names = references(instruction.attributes["body"])
        elif instruction.opcode in ("call", "conditional"):
            names = instruction.called
        else:
            names = ()
        moments = (self.fullest(self._program.computations[name]) for name in names)
        return max(moments, key=lambda moment: moment.bytes, default=Fullest(0, "", ()))

    def _buffers(self, computation: Computation) -> tuple[dict[str, Buffer], dict[str, int]]:
        """What each instruction that makes a buffer holds, and the last position that uses it.

        Results of the computation are no temporaries: they lie where its caller wants them.
        """
        leaves: dict[str, _Leaves] = {}
        buffers: dict[str, Buffer] = {}
        last_use: dict[str, int] = {}
        for position, instruction in enumerate(computation.instructions.values()):
            operands = [leaves[name] for name in instruction.operands]
            for name in _names(operands):
                last_use[name] = position
            leaves[instruction.name] = self._leaves(instruction, operands)
            made = _made(instruction)
            size = sum(array.bytes for array in made.arrays if _in_device(array))
            if size and instruction.name in _names([leaves[instruction.name]]):
                place = self._places[instruction] or instruction.opcode
                buffers[instruction.name] = Buffer(size, str(made), place)
                last_use[instruction.name] = position
        for name in _names([leaves[computation.root.name]]):
            buffers.pop(name, None)
        return buffers, last_use

    def _leaves(self, instruction: Instruction, operands: list[_Leaves]) -> _Leaves:
        opcode = instruction.opcode
        if opcode == "parameter":
            return None  # the caller's
        if opcode == "tuple":
            return tuple(operands)
        if opcode == "get-tuple-element":
            whole = operands[0]
            index = int(instruction.attributes["index"])
            return whole[index] if isinstance(whole, tuple) else whole
        if opcode == "all-reduce" and len(operands) > 1:
            return tuple(operands)
        if opcode in _IN_PLACE or opcode.endswith("-done"):
            return operands[0]
        if self._updates_in_place(instruction):
            return operands[0]
        return instruction.name

    def _updates_in_place(self, fusion: Instruction) -> bool:
        """Whether it writes a slice into its first operand."""
        if fusion.opcode != "fusion":
            return False
        root = self._program.computations[fusion.called[0]].root
        return root.opcode == "dynamic-update-slice"


def _made(instruction: Instruction) -> Shape:
    """The shape of what is new: a start also names its operand, a copy behind its result."""
    if not instruction.opcode.endswith("-start"):
        return instruction.shape
    return instruction.shape.elements[0 if instruction.opcode == "copy-start" else 1]


def _in_device(array: Shape) -> bool:
    return not _INSIDE.search(array.layout)


def _names(leaves: list[_Leaves]) -> set[str]:
    found: set[str] = set()
    for leaf in leaves:
        if isinstance(leaf, tuple):
            found |= _names(list(leaf))
        elif leaf is not None:
            found.add(leaf)
    return found
