"""What of a program's counts is not exact, and what of it cannot be compared, in a few lines."""

from collections.abc import Sequence

from harness.hlo.collectives import COLLECTIVE_KINDS, has_unreadable_groups
from harness.hlo.loops import Conditional, Loop, walk
from harness.hlo.parse import Instruction, Program
from harness.hlo.place import where
from harness.terminal.text import shortlist

_COSTLY = (*COLLECTIVE_KINDS, "dot", "convolution")
_UNCOUNTED = ("ragged-all-to-all", "collective-broadcast", "send", "recv")


def inexact(program: Program) -> list[str]:
    """A line for each reason why counts of the program are not exact; [] when all are.

    Counts are executions, bytes, cycles and FLOPs. What holds none of these is no reason.
    """
    found = walk(program)

    def holds_counts(one: Loop | Conditional) -> bool:
        return _holds_counts(program, program.computations[one.computation].instructions[one.name])

    loops = [loop for loop in found.loops if loop.trips is None and holds_counts(loop)]
    conditionals = [one for one in found.conditionals if one.taken is None and holds_counts(one)]
    unseen, uncounted, ungrouped = [], [], []
    for name, computation in program.computations.items():
        for instruction in computation.instructions.values():
            if name not in found.executions and _is_costly(instruction):
                unseen.append(instruction)
            elif instruction.opcode.removesuffix("-start") in _UNCOUNTED:
                uncounted.append(instruction)
            elif has_unreadable_groups(instruction):
                ungrouped.append(instruction)
    reasons = (
        (loops, "counts are too low: no trip count can be told for {}, so one trip is counted"),
        (
            conditionals,
            "counts may be too high: which branch runs cannot be told for {}, so every branch is"
            " counted each time",
        ),
        (unseen, "counts are too low: nothing is seen to run {}"),
        (ungrouped, "bytes on the wire may be too high: all devices are taken as one group of {}"),
        (uncounted, "bytes on the wire are too low: none are counted for {}"),
    )
    return [line.format(_listed(those)) for those, line in reasons if those]


def warnings(program: Program) -> list[str]:
    """`inexact`, and a line when constants are elided, in which programs cannot be compared."""
    elided = [
        instruction
        for computation in program.computations.values()
        for instruction in computation.instructions.values()
        if instruction.literal.strip() == "{...}"
    ]
    if not elided:
        return inexact(program)
    told = f"programs may look alike that are not: the text elides the values of {_listed(elided)}"
    return [*inexact(program), told]


def _holds_counts(program: Program, caller: Instruction) -> bool:
    """Whether anything that counts lies in what it calls, at any depth."""
    return any(
        _is_costly(inner)
        or inner.cycles is not None
        or bool(inner.target)
        or _holds_counts(program, inner)
        for name in caller.called
        for inner in program.computations[name].instructions.values()
    )


def _is_costly(instruction: Instruction) -> bool:
    return instruction.opcode.removesuffix("-start") in _COSTLY


def _listed(those: Sequence[Instruction | Loop | Conditional]) -> str:
    """Names and places of the first, and how many more there are."""
    return shortlist([f"{one.name}{_at(where(one.op_name))}" for one in those])


def _at(place: str) -> str:
    return f" {place}" if place.startswith("(") else f" in {place}" if place else ""
