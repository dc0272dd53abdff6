"""How often each computation of a program runs: one pass from the entry down, loops multiplied."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from harness.hlo.known import takers
from harness.hlo.parse import Computation, Instruction, Program, references
from harness.hlo.values import (
    UNKNOWN,
    Argument,
    Element,
    Value,
    at_each_trip,
    numbers,
    origin,
    result,
    trip_count,
    unchanged,
    where_taken,
)

_CALLS = ("fusion", "call", "custom-call", "async")


@dataclass(frozen=True)
class Executions:
    """How often a computation runs in one run of the program.

    exact: False inside a loop whose trip count cannot be told (counted as one trip) and where it
    cannot be told which branch runs (each counted as taken). caller, within: the outermost fusion
    it belongs to, if any, and the computation which that stands in.
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


@dataclass(frozen=True)
class Conditional:
    """A conditional operation: how often each branch runs (None: cannot be told) and it itself."""

    name: str
    computation: str
    op_name: str
    taken: tuple[int, ...] | None
    times: int


@dataclass
class Walk:
    """Executions by computation, reducers left out; loops; conditionals; arguments carried.

    arguments: for an operation whose arrays all come from one argument of the program, its name.
    """

    executions: dict[str, Executions] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    conditionals: list[Conditional] = field(default_factory=list)
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
                    self._branches(computation, instruction, operands, executions)
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
        self,
        computation: Computation,
        instruction: Instruction,
        operands: list[Value],
        executions: Executions | None,
    ) -> None:
        if executions is None:
            return
        selector, times = numbers(operands[0]), executions.times
        branches = [self.program.computations[name] for name in instruction.called]
        taken = None if selector is None else takers(selector, len(branches), times)
        for index, (branch, given) in enumerate(zip(branches, operands[1:], strict=True)):
            if taken is None:
                self.run(branch, [given], replace(executions, exact=False))
            else:
                runs = replace(executions, times=int(taken[index].sum()))
                self.run(branch, [where_taken(given, taken[index])], runs)
        self.found.conditionals.append(
            Conditional(
                instruction.name,
                computation.name,
                instruction.op_name,
                None if taken is None else tuple(int(one.sum()) for one in taken),
                times,
            )
        )

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
        if trips is None:  # counted as one trip, of which nothing is known
            self.run(body, [state], replace(executions, exact=False))
            twice = replace(executions, times=2 * executions.times, exact=False)
            self.run(condition, [UNKNOWN], twice)
            return state
        # The condition also runs when it ends the loop.
        for callee, runs in ((body, trips), (condition, trips + 1)):
            found = at_each_trip(after, initial, runs, executions.times)
            self.run(callee, [found], replace(executions, times=executions.times * runs))
        return state


def _known_trip_count(instruction: Instruction) -> int | None:
    """What XLA wrote down itself (CPU and GPU)."""
    _, _, rest = instruction.attributes.get("backend_config", "").partition('"known_trip_count":')
    count = rest.partition("}")[0].strip('{"n: ')
    return int(count) if count.isdigit() else None
