"""Which part of the model an operation of a compiled step belongs to, and what each part costs."""

import re
from collections import Counter
from dataclasses import dataclass

from harness import hlo
from harness.hlo import Instruction, Program

# The named scopes of the code that both twins share, and words in the names of parameters.
_PARTS = {
    "attention": "query key value out rope attention",
    "mlp": "wi_0 wi_1 wo",
    "norm": "norm scale",
    "dropout": "dropout",
    "embedding": "embedding gather scatter-add",
    "head": "logits logits_dense",
    "loss": "loss",
    "optimizer": "optimizer opt_state",
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names.split()}
IN_LAYERS, ELSEWHERE, COPIES = "layers, other", "other", "copies"
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Cost:
    """One operation the compiler has an estimate for; `cycles` of all its executions."""

    part: str
    opcode: str
    shape: str
    where: str
    times: int
    cycles: int


def list_costs(program: Program) -> list[Cost]:
    """Every operation with an estimate, the costliest first; their sum is hlo.fusion_cycles."""
    found = hlo.walk(program)
    costs = [
        Cost(
            part_of(program, instruction),
            instruction.opcode,
            str(instruction.shape),
            hlo.where(instruction.op_name),
            executions.times,
            instruction.cycles * executions.times,
        )
        for name, executions in found.executions.items()
        if executions.caller is None  # within a fusion, the fusion's own estimate counts
        for instruction in program.computations[name].instructions.values()
        if instruction.cycles is not None
    ]
    return sorted(costs, key=lambda cost: -cost.cycles)


def cycles_by_part(program: Program) -> dict[str, int]:
    """Estimated cycles of one step by part, the costliest first."""
    totals: Counter[str] = Counter()
    for cost in list_costs(program):
        totals[cost.part] += cost.cycles
    return dict(totals.most_common())


def part_of(program: Program, instruction: Instruction) -> str:
    """The part whose name is innermost in the operation's path.

    Of a fusion the matrix product decides, else its own name, else what is fused into it, else
    the parameter that all its data come from.
    """
    if instruction.opcode.startswith("copy"):
        return COPIES
    fused = [
        inner
        for name in instruction.called
        for inner in program.computations[name].instructions.values()
    ]
    products = [inner for inner in fused if inner.opcode in ("dot", "convolution")]
    for candidate in (*products, instruction, *reversed(fused)):
        part = _named(candidate.op_name)
        if part is not None:
            return part
    part = _named(hlo.walk(program).arguments.get(instruction, ""))
    if part is not None:
        return part
    paths = (candidate.op_name for candidate in (instruction, *fused))
    return IN_LAYERS if any("/while/" in path for path in paths) else ELSEWHERE


def _named(op_name: str) -> str | None:
    names = reversed(_NAME.findall(op_name.partition(";")[0]))
    return next((_PART_OF[name] for name in names if name in _PART_OF), None)
