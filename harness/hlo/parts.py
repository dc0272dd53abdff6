"""Which part of the model an operation of a compiled step belongs to, and what each part costs."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from harness import hlo
from harness.hlo import Instruction, Program
from harness.hlo.canonical import build

# The named scopes of the code that both twins share, and words in the names of parameters.
_PARTS = {
    "attention": "query key value out rope attention",
    "mlp": "wi_0 wi_1 wo",
    "norm": "norm scale",
    "dropout": "dropout",
    "embedding": "embedding gather scatter-add",
    "head": "logits logits_dense",
    "loss": "loss",
    "optimizer": "optimizer",
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
            places(program)[instruction],
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


@lru_cache(maxsize=4)
def places(program: Program) -> Mapping[Instruction, str]:
    """Where in the model every operation stands, or else what uses it."""
    nodes = (node for nodes in build(program).nodes.values() for node in nodes)
    return {node.instruction: node.where for node in nodes}


def part_of(program: Program, instruction: Instruction) -> str:
    """The part whose name is innermost in the operation's path.

    Of a fusion the matrix product decides, else its own name, else what is fused into it, else
    the parameter that all its data come from, else what uses it.
    """
    if instruction.opcode.startswith("copy"):
        return COPIES
    fused = [
        inner
        for name in instruction.called
        for inner in program.computations[name].instructions.values()
    ]
    products = [inner for inner in fused if inner.opcode in ("dot", "convolution")]
    paths = [inner.op_name for inner in (*products, instruction, *reversed(fused))]
    paths += [hlo.walk(program).arguments.get(instruction, ""), places(program)[instruction]]
    named = (_named(path) for path in paths)
    known = next((part for part in named if part is not None), None)
    if known is not None:
        return known
    return IN_LAYERS if any("/while/" in path for path in paths) else ELSEWHERE


def _named(op_name: str) -> str | None:
    names = _NAME.findall(op_name.partition(";")[0])
    if "opt_state" in names:
        return "optimizer"
    return next((_PART_OF[name] for name in reversed(names) if name in _PART_OF), None)
