"""The canonical form of a program: equal for two texts of the same graph, and only for those."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.hlo.collectives import replica_groups
from harness.hlo.kernels import kernel_digest
from harness.hlo.parse import CALLERS, Computation, Instruction, Program, Shape, references
from harness.hlo.place import where

_IGNORED_ATTRIBUTES = frozenset(("metadata", "origin", "statistics"))
_IGNORED_CONFIG = frozenset(("barrier_config", "retry_config", "offset", "debug_locations"))
_IGNORED_HEADER = frozenset(
    (
        "is_scheduled",
        "allow_spmd_sharding_propagation_to_parameters",
        "allow_spmd_sharding_propagation_to_output",
    )
)
# Within the value of another attribute: metadata of a sharding, what XLA numbered.
_IGNORED_WITHIN = re.compile(
    r',?\s*metadata=\{[^{}]*\}|async_collective_name="[^"]*",?|(?<=chain_id=)"\d+"'
)
_MODULE_HASH = re.compile(r'fingerprint_before_lhs="[^"]*",?')
_SHORT = 16


@dataclass(frozen=True)
class Node:
    """One instruction by content.

    content: opcode, shapes with layouts and every attribute that counts, but neither who feeds
    it nor what its callees do. digest: of the content, its operands' digests and its callees'.
    where: its place in the model, or else that of what uses it: XLA leaves many constants none.
    """

    instruction: Instruction
    computation: str
    where: str
    content: tuple[tuple[str, str], ...]
    operands: tuple[str, ...]
    callees: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Graph:
    """The nodes of every computation reached from the entry, and a digest of each computation."""

    header: dict[str, str]
    nodes: dict[str, list[Node]]
    digests: dict[str, str]
    entry: str


def canonical(program: Program) -> str:
    """The program as text in which only what it computes, and how, is left.

    Ignored: the names of the module, computations, instructions and parameters; the order of
    instructions that do not depend on each other (so also the schedule, and with it how far
    asynchronous operations overlap); metadata (op_name, source lines, tables FileNames to
    StackFrames) and debugging attributes (origin, statistics); channel, chain and barrier
    numbers, memory offsets and retry counts; execution threads; names of asynchronous collectives;
    the source locations in Pallas kernels; how replica groups are spelled; the compile options
    is_scheduled and allow_spmd_sharding_propagation.

    Everything else counts: opcodes, types, shapes, layouts and memory spaces, the wiring of
    operands, constants, attributes, called computations, shardings, replica groups, aliasing,
    kernels, the other fields of backend_config (cycle estimates and tilings among them), and how
    often equal operations occur. Constants elided as {...} cannot count: see `text`.
    """
    graph = build(program)
    lines = [f"{key}={value}" for key, value in sorted(graph.header.items())]
    written: dict[str, str] = {}
    for name, digest in graph.digests.items():
        if digest not in written:
            written[digest] = _block(program, graph, name)
    lines += [written[digest] for digest in sorted(written)]
    return "\n".join([*lines, f"ENTRY {graph.digests[graph.entry][:_SHORT]}", ""])


def fingerprint(program: Program) -> str:
    """The sha256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(program).encode()).hexdigest()


@lru_cache(maxsize=4)
def build(program: Program) -> Graph:
    """Hashes the program by content, callees before callers."""
    graph = Graph(_header(program), {}, {}, program.entry.name)

    def digest(name: str, place: str) -> str:
        if name not in graph.digests:
            computation = program.computations[name]
            nodes = _nodes(computation, program.devices, place, digest)
            root = nodes[computation.root.name].digest
            counts = Counter(node.digest for node in nodes.values())
            graph.nodes[name] = list(nodes.values())
            graph.digests[name] = _sha(root, sorted(counts.items()))
        return graph.digests[name]

    digest(program.entry.name, "")
    return graph


def _nodes(
    computation: Computation, devices: int, place: str, callee_digest: Callable[[str, str], str]
) -> dict[str, Node]:
    """The computation's instructions as nodes, by name; `place` is its caller's."""
    places = _places(computation, place)
    nodes: dict[str, Node] = {}
    for name, instruction in computation.instructions.items():
        shapes = [operand.shape for operand in computation.operands(instruction)]
        content = _content(instruction, shapes, devices)
        operands = tuple(nodes[operand].digest for operand in instruction.operands)
        callees = tuple(callee_digest(callee, places[name]) for callee in instruction.called)
        before = references(instruction.attributes.get("control-predecessors", ""))
        after = sorted(nodes[other].digest for other in before)
        digest = _sha(content, operands, callees, after)
        nodes[name] = Node(
            instruction, computation.name, places[name], content, operands, callees, digest
        )
    return nodes


def _places(computation: Computation, place: str) -> dict[str, str]:
    """Where every instruction stands, or its first use that tells, or the caller."""
    places = {computation.root.name: place}
    for instruction in reversed(computation.instructions.values()):
        place = where(instruction.op_name) or places.get(instruction.name, "")
        places[instruction.name] = place
        if place:
            places.update(dict.fromkeys(instruction.operands, place))
    return places


def _block(program: Program, graph: Graph, name: str) -> str:
    """One computation: its distinct instructions by depth, then digest; n * for n equal ones."""
    depths: dict[str, int] = {}
    distinct: dict[str, Node] = {}
    counts: Counter[str] = Counter()
    for node in graph.nodes[name]:
        depths[node.digest] = 1 + max((depths[operand] for operand in node.operands), default=0)
        distinct[node.digest] = node
        counts[node.digest] += 1
    ordered = sorted(distinct, key=lambda digest: (depths[digest], digest))
    numbers = {digest: f"%{number}" for number, digest in enumerate(ordered)}
    root = next(n for n in graph.nodes[name] if n.instruction is program.computations[name].root)
    lines = [f"{graph.digests[name][:_SHORT]} {{"]
    for digest in ordered:
        node = distinct[digest]
        content = dict(node.content)
        opcode, shape, value = (content.pop(key) for key in ("opcode", "shape", "value"))
        content.pop("operands")
        arguments = value or ", ".join(numbers[operand] for operand in node.operands)
        attributes = "".join(f", {key}={text}" for key, text in content.items())
        calls = f", calls {' '.join(c[:_SHORT] for c in node.callees)}" if node.callees else ""
        times = f"{counts[digest]} * " if counts[digest] > 1 else ""
        mark = "ROOT " if digest == root.digest else ""
        lines.append(
            f"  {mark}{numbers[digest]} = {times}{shape} {opcode}({arguments}){attributes}{calls}"
        )
    return "\n".join([*lines, "}"])


def _content(
    instruction: Instruction, operands: list[Shape], devices: int
) -> tuple[tuple[str, str], ...]:
    content = {
        "opcode": instruction.opcode,
        "shape": _written(instruction.shape),
        "operands": ", ".join(map(_written, operands)),
        "value": " ".join(instruction.literal.split()),
    }
    for key, value in sorted(instruction.attributes.items()):
        if key in CALLERS or key in _IGNORED_ATTRIBUTES or key == "control-predecessors":
            continue
        rewrite = _REWRITES.get(key)
        if key == "replica_groups":
            content[key] = str(replica_groups(value, devices))
        elif rewrite is not None:
            content[key] = rewrite(value)
        else:
            content[key] = " ".join(_IGNORED_WITHIN.sub("", value).split())
    return tuple(content.items())


def _written(shape: Shape) -> str:
    """The shape with its layout."""
    if shape.dtype == "tuple":
        return f"({', '.join(map(_written, shape.elements))})"
    return f"{shape}{shape.layout}"


def _config(text: str) -> str:
    """A backend_config with sorted keys and without what may change from compile to compile."""
    try:
        return json.dumps(_stable(json.loads(text)), sort_keys=True, separators=(",", ":"))
    except json.JSONDecodeError:
        return text


def _stable(value: Any) -> Any:
    if isinstance(value, list):
        return [_stable(element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        key: kernel_digest(element)
        if key == "body" and isinstance(element, str)
        else _stable(element)
        for key, element in value.items()
        if key not in _IGNORED_CONFIG
    }


# Channels are numbered as they are made; that there is one tells partitions from replicas.
_REWRITES: dict[str, Callable[[str], str]] = {
    "backend_config": _config,
    "channel_id": lambda _: "*",
}


def _header(program: Program) -> dict[str, str]:
    return {
        key: _MODULE_HASH.sub("", value)
        for key, value in program.header.items()
        if key not in _IGNORED_HEADER
    }


def _sha(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
