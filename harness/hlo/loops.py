"""How often each computation of a program runs: one pass from the entry down, loops multiplied."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from harness.hlo.parse import Computation, Instruction, Program, references
from harness.hlo.values import (
    UNKNOWN,
    Argument,
    Element,
    Value,
    origin,
    result,
    trip_count,
    unchanged,
)

_CALLS = ("fusion", "call", "custom-call", "async")
_COSTLY = ("all-", "reduce-scatter", "collective-permute", "while", "dot", "convolution")
_UNCOUNTED = ("ragged-all-to-all", "collective-broadcast", "send", "recv")


@dataclass(frozen=True)
class Executions:
    """How often a computation runs in one run of the program.

    exact: False inside a loop whose trip count cannot be told (counted as one trip) and inside
    branches (each counted as taken). caller, within: the outermost fusion it belongs to, if
    any, and the computation which that stands in.
    """

    times: int
    exact: bool
    caller: Instruction | None = None
    within: str = ""


@dataclass(frozen=True)
class Loop:
    """A while operation: its trips per execution (None: cannot be told) and executions."""

    name: str
    computation: str
    op_name: str
    trips: int | None
    times: int


@dataclass
class Walk:
    """Executions by computation, reducers left out; loops; conditionals; arguments carried.

    arguments: for an operation whose arrays all come from one argument of the program, its name.
    """

    executions: dict[str, Executions] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    conditionals: list[Instruction] = field(default_factory=list)
    arguments: dict[Instruction, str] = field(default_factory=dict)


@lru_cache(maxsize=4)
def walk(program: Program) -> Walk:
    """Follows every call from the entry down."""
    parameters = [i for i in program.entry.instructions.values() if i.opcode == "parameter"]
    parameters.sort(key=lambda parameter: int(parameter.literal))
    arguments = [Argument(parameter.op_name or parameter.name) for parameter in parameters]
    walker = _Walker(program)
    walker.run(program.entry, arguments, Executions(1, True))
    return walker.found


def warnings(program: Program) -> list[str]:
    """What the counts and the comparison of this program cannot tell; empty when all is told."""
    found = walk(program)
    lines = [
        f"loop {loop.name} ({loop.op_name or loop.computation}): its trip count cannot be told; "
        "its body is counted as one trip"
        for loop in found.loops
        if loop.trips is None
    ]
    lines += [
        f"conditional {conditional.name} ({conditional.op_name}): every branch counts as taken"
        for conditional in found.conditionals
    ]
    remarks = (
        _remark(instruction, name, name in found.executions)
        for name, computation in program.computations.items()
        for instruction in computation.instructions.values()
    )
    return lines + [remark for remark in remarks if remark]


def _remark(instruction: Instruction, computation: str, is_walked: bool) -> str:
    """What cannot be told about one instruction, or empty."""
    opcode, name = instruction.opcode, instruction.name
    if not is_walked:
        if opcode.startswith(_COSTLY):
            return f"{opcode} {name}: not counted, as nothing is seen to run {computation}"
        return ""
    if instruction.literal.strip() == "{...}":
        return (
            f"constant {name} {instruction.shape}: its values are elided in the text and cannot be "
            "compared; use hlo.text(compiled)"
        )
    if opcode.removesuffix("-start") in _UNCOUNTED:
        return f"{opcode} {name}: its bytes are not counted"
    return ""


class _Walker:
    """Evaluates computations in order; `executions` None is a rehearsal that notes nothing."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found = Walk()

    def run(
        self, computation: Computation, arguments: Sequence[Value], executions: Executions | None
    ) -> Value:
        """The value of the computation's root."""
        if executions is not None:
            self._count(computation, executions)
        values: dict[str, Value] = {}
        for name, instruction in computation.instructions.items():
            operands = [values[operand] for operand in instruction.operands]
            match instruction.opcode:
                case "parameter":
                    index = int(instruction.literal)
                    values[name] = arguments[index] if index < len(arguments) else UNKNOWN
                case "while":
                    values[name] = self._loop(computation, instruction, operands[0], executions)
                case "conditional":
                    self._branches(instruction, operands, executions)
                    values[name] = UNKNOWN
                case opcode if opcode.removesuffix("-start") in _CALLS and instruction.called:
                    values[name] = self._call(computation, instruction, operands, executions)
                case _:
                    values[name] = result(computation, instruction, operands)
            if executions is not None:
                source = origin(computation, instruction, operands)
                if isinstance(source, Argument) and source != UNKNOWN:
                    self.found.arguments[instruction] = source.name
        return values[computation.root.name]

    def _count(self, computation: Computation, executions: Executions) -> None:
        before = self.found.executions.get(computation.name)
        if before is not None:
            times, exact = before.times + executions.times, before.exact and executions.exact
            executions = replace(before, times=times, exact=exact)
        self.found.executions[computation.name] = executions

    def _call(
        self,
        computation: Computation,
        instruction: Instruction,
        operands: list[Value],
        executions: Executions | None,
    ) -> Value:
        if executions and instruction.opcode == "fusion" and executions.caller is None:
            executions = replace(executions, caller=instruction, within=computation.name)
        callees = [self.program.computations[name] for name in instruction.called]
        return [self.run(callee, operands, executions) for callee in callees][-1]

    def _branches(
        self, instruction: Instruction, operands: list[Value], executions: Executions | None
    ) -> None:
        if executions is None:
            return
        self.found.conditionals.append(instruction)
        for name, operand in zip(instruction.called, operands[1:], strict=True):
            branch = self.program.computations[name]
            self.run(branch, [operand], replace(executions, exact=False))

    def _loop(
        self,
        computation: Computation,
        instruction: Instruction,
        initial: Value,
        executions: Executions | None,
    ) -> Value:
        """The parts of the loop's state that no trip changes."""
        condition, body = (
            self.program.computations[references(instruction.attributes[key])[0]]
            for key in ("condition", "body")
        )
        after = self.run(body, [Element()], None)
        state = unchanged(after, initial)
        if executions is None:
            return state
        trips = _known_trip_count(instruction)
        if trips is None:
            trips = trip_count(self.run(condition, [Element()], None), initial, after)
        self.found.loops.append(
            Loop(instruction.name, computation.name, instruction.op_name, trips, executions.times)
        )
        times = executions.times * (1 if trips is None else trips)
        exact = executions.exact and trips is not None
        self.run(body, [state], replace(executions, times=times, exact=exact))
        times += executions.times  # the condition also runs when it ends the loop
        self.run(condition, [state], replace(executions, times=times, exact=exact))
        return state


def _known_trip_count(instruction: Instruction) -> int | None:
    """What XLA wrote down itself (CPU and GPU)."""
    _, _, rest = instruction.attributes.get("backend_config", "").partition('"known_trip_count":')
    count = rest.partition("}")[0].strip('{"n: ')
    return int(count) if count.isdigit() else None
