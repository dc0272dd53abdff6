"""What differs between two programs, named by operation, count, cost and place in the model."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.hlo.canonical import Graph, Node, build, fingerprint
from harness.hlo.collectives import COLLECTIVE_KINDS
from harness.hlo.kinds import CARRYING_HEADERS, KINDS, Kind, draws, kind_of
from harness.hlo.loops import walk
from harness.hlo.parse import Program
from harness.hlo.sources import source
from harness.terminal.text import safe, shortlist

# Follows from what it connects, so it is told last.
_PLUMBING = frozenset(("parameter", "tuple", "get-tuple-element", "bitcast", "while"))
_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """Operations alike in everything that counts, found more often in one program.

    count_*: how many the program's text holds. bytes_*: the bytes of their results, and cycles_*:
    their estimated cycles (0 where a program has no estimates), all executions together.
    where: places in the model, as in `where`; empty when XLA made the operation up.
    detail: what changed (old -> new), when both programs have such an operation there. kind: what
    such operations are there for. source_*: the lines that wrote the first of them, as in `source`.
    """

    opcode: str
    shape: str
    where: str
    count_a: int
    count_b: int
    cycles_a: int = 0
    cycles_b: int = 0
    bytes_a: int = 0
    bytes_b: int = 0
    detail: str = ""
    kind: Kind = "mathematics"
    source_a: str = ""
    source_b: str = ""

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        parts = [f"{self.count_a} -> {self.count_b}"]
        if self.cycles_a != self.cycles_b:
            parts.append(f"cycles {self.cycles_a:,} -> {self.cycles_b:,}")
        if self.bytes_a != self.bytes_b:
            parts.append(f"bytes {self.bytes_a:,} -> {self.bytes_b:,}")
        if self.detail:
            parts.append(self.detail)
        return f"{self.opcode} {safe(self.shape, _SHOWN)}".strip() + f"{place}: {'; '.join(parts)}"


def diff(a: Program, b: Program) -> list[Difference]:
    """What program `b` has more, fewer or otherwise than `a`; [] when their fingerprints agree.

    Operations are matched by content, wherever they stand. In order: the module's attributes;
    collectives; operations that differ though what feeds them does not (where a change begins);
    what follows from these; mere plumbing; each by cost. When all operations agree and only
    their wiring differs, the operations where that begins are named.
    """
    if fingerprint(a) == fingerprint(b):
        return []
    comparison = _Comparison(a, b)
    found = comparison.header() + (comparison.contents() or comparison.wirings())
    regrouped = "the same operations, regrouped"
    return found or [
        Difference("program", "", "", 1, 1, detail=regrouped, kind="grouping and layout")
    ]


_Key = tuple[str, str, str]  # opcode, shape, place


@dataclass
class _Surplus:
    """The nodes of one content that one program has more of, all that both have, of which kinds."""

    nodes: list[Node]
    a: list[Node]
    b: list[Node]
    kinds: list[Kind]


class _Comparison:
    """Two programs as graphs, and what of them is known to both."""

    def __init__(self, a: Program, b: Program) -> None:
        self.programs = a, b
        self.graphs = build(a), build(b)
        digests = [Counter(node.digest for node in _nodes(graph)) for graph in self.graphs]
        self.only = digests[0] - digests[1], digests[1] - digests[0]
        self.shared = digests[0].keys() & digests[1].keys()
        self.drawing = [
            {
                name
                for name, nodes in graph.nodes.items()
                if draws({str(node.instruction.shape) for node in nodes})
            }
            for graph in self.graphs
        ]
        self.callees = set(self.graphs[0].digests.values()) & set(self.graphs[1].digests.values())

    def header(self) -> list[Difference]:
        a, b = (graph.header for graph in self.graphs)
        return [
            Difference(
                "module",
                key,
                "",
                int(key in a),
                int(key in b),
                detail=_changed(a.get(key, "none"), b.get(key, "none")),
                kind="state carried in and out"
                if key in CARRYING_HEADERS
                else "grouping and layout",
            )
            for key in sorted(a.keys() | b.keys())
            if a.get(key) != b.get(key)
        ]

    def contents(self) -> list[Difference]:
        """Operations of which one program has more."""
        nodes = [_by_content(graph) for graph in self.graphs]
        surplus: dict[_Key, tuple[list[_Surplus], list[_Surplus]]] = defaultdict(lambda: ([], []))
        for content in nodes[0].keys() | nodes[1].keys():
            a, b = both = [side.get(content, []) for side in nodes]
            if len(a) != len(b):
                more = int(len(b) > len(a))
                left = _unmatched(both[more], both[1 - more])
                surplus[_key(left)][more].append(_Surplus(left, a, b, self._kinds(a, b)))
        found = []
        for key, (fewer, more_in_b) in surplus.items():
            if len(fewer) == len(more_in_b) == 1:  # one operation, changed
                old, new = fewer[0], more_in_b[0]
                detail = _detail(old.nodes[0], new.nodes[0])
                changed = _Surplus(
                    old.nodes + new.nodes, old.a + new.a, old.b + new.b, old.kinds + new.kinds
                )
                found.append(self._difference(key, changed, detail))
            else:
                found += [
                    self._difference(key, one, _value(one.nodes[0])) for one in fewer + more_in_b
                ]
        return [difference for _, difference in sorted(found, key=_rank)]

    def wirings(self) -> list[Difference]:
        """Operations whose operands and callees exist in both programs, but not so combined."""
        begins: dict[_Key, tuple[list[Node], list[Node]]] = defaultdict(lambda: ([], []))
        for side, graph in enumerate(self.graphs):
            for node in _nodes(graph):
                if node.digest in self.only[side] and self._is_cause(node):
                    begins[_key([node])][side].append(node)
        found = []
        for key, (a, b) in begins.items():
            kinds = [self._kind(side, one) for side, nodes in ((0, a), (1, b)) for one in nodes]
            wired = _Surplus(a + b, a, b, kinds)
            found.append(self._difference(key, wired, "wired otherwise"))
        return [difference for _, difference in sorted(found, key=_rank)]

    def _is_cause(self, node: Node) -> bool:
        """Whether what feeds it and what it calls exists in both programs."""
        return self.shared.issuperset(node.operands) and self.callees.issuperset(node.callees)

    def _kind(self, side: int, node: Node) -> Kind:
        """Of an operation: what stands beside keys and no model's numbers draws these too."""
        is_drawing = node.computation in self.drawing[side]
        kind = kind_of(node.instruction)
        return "random numbers" if kind == "mathematics" and is_drawing else kind

    def _kinds(self, a: list[Node], b: list[Node]) -> list[Kind]:
        """Of which kinds one program has more, of operations of one content."""
        counts = [
            Counter(self._kind(side, node) for node in nodes) for side, nodes in enumerate((a, b))
        ]
        return [kind for kind in KINDS if counts[0][kind] != counts[1][kind]]

    def _difference(self, key: _Key, one: _Surplus, detail: str) -> tuple[bool, Difference]:
        """The difference, of the most telling kind, and whether it is where a change begins."""
        cycles_a, bytes_a = _totals(self.programs[0], one.a)
        cycles_b, bytes_b = _totals(self.programs[1], one.b)
        counted = (len(one.a), len(one.b), cycles_a, cycles_b, bytes_a, bytes_b)
        places = {node.where for node in one.nodes}
        written = (
            next(filter(None, (source(program, node.instruction) for node in listed)), "")
            for program, nodes in zip(self.programs, (one.a, one.b), strict=True)
            for listed in [sorted(nodes, key=lambda node: node.where not in places)]
        )
        kind = min(one.kinds, key=KINDS.index)
        difference = Difference(*key, *counted, detail, kind, *written)
        return any(map(self._is_cause, one.a + one.b)), difference


def _rank(found: tuple[bool, Difference]) -> tuple[int, int, int, str]:
    is_cause, difference = found
    if difference.opcode.removesuffix("-start") in COLLECTIVE_KINDS:
        group = 0
    elif difference.opcode in _PLUMBING:
        group = 3
    else:
        group = 1 if is_cause else 2
    cycles = abs(difference.cycles_a - difference.cycles_b)
    size = abs(difference.bytes_a - difference.bytes_b)
    return group, -cycles, -size, str(difference)


def _key(nodes: list[Node]) -> _Key:
    first = nodes[0].instruction
    return first.opcode, str(first.shape), _places(nodes)


def _totals(program: Program, nodes: Iterable[Node]) -> tuple[int, int]:
    """Cycles and result bytes of all executions; reducers run too often to be counted."""
    executions = walk(program).executions
    cycles = size = 0
    for node in nodes:
        if node.computation in executions:
            times = executions[node.computation].times
            cycles += (node.instruction.cycles or 0) * times
            size += node.instruction.shape.bytes * times
    return cycles, size


def _nodes(graph: Graph) -> list[Node]:
    return [node for nodes in graph.nodes.values() for node in nodes]


def _by_content(graph: Graph) -> dict[tuple[tuple[str, str], ...], list[Node]]:
    grouped: dict[tuple[tuple[str, str], ...], list[Node]] = defaultdict(list)
    for node in _nodes(graph):
        grouped[node.content].append(node)
    return grouped


def _unmatched(many: list[Node], few: list[Node]) -> list[Node]:
    """The nodes left over when each of `few` takes one away, from the same place if it can."""
    left = Counter(node.where for node in few)
    rest = []
    for node in many:
        if left[node.where]:
            left[node.where] -= 1
        else:
            rest.append(node)
    return rest[: len(many) - len(few)]


def _places(nodes: list[Node]) -> str:
    places = Counter(node.where for node in nodes)
    named = [place for place, _ in places.most_common() if place]
    return shortlist(named, 2)


def _value(node: Node) -> str:
    value = dict(node.content)["value"]
    return safe(f"{node.instruction.opcode}({value})", _SHOWN) if value else ""


def _detail(a: Node, b: Node) -> str:
    left, right = (dict(_flat("", dict(node.content))) for node in (a, b))
    return ", ".join(
        f"{key} {_changed(left.get(key, 'none'), right.get(key, 'none'))}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    )


def _flat(path: str, value: Any) -> Iterable[tuple[str, str]]:
    """The leaves of a node's content by dotted path; a backend_config in JSON is opened up."""
    if path == "backend_config":
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(value)
    if isinstance(value, dict):
        for key, element in value.items():
            yield from _flat(f"{path}.{key}" if path else key, element)
    else:
        yield path, str(value)


def _changed(a: str, b: str) -> str:
    return f"{safe(a, _SHOWN)} -> {safe(b, _SHOWN)}"
