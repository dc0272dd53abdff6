"""Which part of the model an operation of a compiled step belongs to, and what each part costs."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness import hlo
from harness.hlo import Instruction, Program
from harness.hlo.canonical import build

# What a family says of itself: part -> names, each one word of a path or several, as "mlp/out".
Parts = Mapping[str, Sequence[str]]

# The named scopes of the step that every family is trained by.
_OF_THE_STEP: Parts = {"loss": ("loss",), "optimizer": ("optimizer",)}
_PartOf = Mapping[tuple[str, ...], str]  # by the words of its name
IN_LAYERS, ELSEWHERE, COPIES = "layers, other", "other", "copies"
_NAME = re.compile(r"[\w-]+")
_FIRST_PARAMETER = re.compile(r"\['params'\]\['([\w-]+)'\]")
_FIRST_NAME = re.compile(r"([\w-]+)(?:[/ ]|$)")


@dataclass(frozen=True)
class Cost:
    """One operation the compiler has an estimate for; `cycles` of all its executions."""

    part: str
    opcode: str
    shape: str
    where: str
    times: int
    cycles: int


def list_costs(program: Program, parts: Parts | None) -> list[Cost]:
    """Every operation with an estimate, the costliest first; their sum is hlo.fusion_cycles.

    parts None: a part is then what the topmost module of an operation's path is called.
    """
    part_of = _by_words(parts)
    return [
        Cost(
            _part_of(program, one.instruction, part_of),
            one.instruction.opcode,
            str(one.instruction.shape),
            places(program)[one.instruction],
            one.times,
            one.total,
        )
        for one in hlo.list_cycles(program)
    ]


def cycles_by_part(program: Program, parts: Parts | None) -> dict[str, int]:
    """Estimated cycles of one step by part, as `list_costs` finds them, the costliest first."""
    return _totals((cost.part, cost.cycles) for cost in list_costs(program, parts))


def flops_by_part(program: Program, parts: Parts | None) -> dict[str, int]:
    """What the matrix products of one step multiply and add by part, the costliest first."""
    part_of = _by_words(parts)
    return _totals(
        (_part_of(program, one.instruction, part_of), one.flops) for one in hlo.matmuls(program)
    )


def _totals(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for part, count in counts:
        totals[part] += count
    return dict(totals.most_common())


@lru_cache(maxsize=4)
def places(program: Program) -> Mapping[Instruction, str]:
    """Where in the model every operation stands, or else what uses it."""
    nodes = (node for nodes in build(program).nodes.values() for node in nodes)
    return {node.instruction: node.where for node in nodes}


def _part_of(program: Program, instruction: Instruction, part_of: _PartOf | None) -> str:
    """The part that the operation's path names.

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
    others = hlo.walk(program).arguments.get(instruction, ""), places(program)[instruction]
    if part_of is None:
        tops = [hlo.where(path) for path in paths if "/" in path]
        named = (_top_module(place) for place in (*tops, *others))
    else:
        named = (_innermost(path.partition(";")[0], part_of) for path in (*paths, *others))
    known = next((part for part in named if part is not None), None)
    if known is not None:
        return known
    return IN_LAYERS if any("/while/" in path for path in paths) else ELSEWHERE


def _by_words(parts: Parts | None) -> _PartOf | None:
    if parts is None:
        return None
    named = {**parts, **_OF_THE_STEP}
    return {tuple(name.split("/")): part for part, names in named.items() for name in names}


def _innermost(path: str, part_of: _PartOf) -> str | None:
    """The part whose name ends last in the path; of several that end there, the longest."""
    words = tuple(_NAME.findall(path))
    if "opt_state" in words:
        return "optimizer"
    pieces = (words[start:end] for end in range(len(words), 0, -1) for start in range(end))
    return next((part_of[piece] for piece in pieces if piece in part_of), None)


def _top_module(place: str) -> str | None:
    """The first name in a place of the model, or in the name of a parameter."""
    if "opt_state" in place:
        return "optimizer"
    found = _FIRST_PARAMETER.search(place) or _FIRST_NAME.match(place)
    return None if found is None else found[1]
