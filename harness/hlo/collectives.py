"""The collectives of a program: how often, how many bytes over the wire, carrying what."""

import itertools
import math
import re
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from harness.hlo.loops import walk
from harness.hlo.parse import Computation, Instruction, Program, Shape

FUSED_ALL_REDUCE_SCATTER = "all-reduce-scatter(fused)"

COLLECTIVE_KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_CHAIN = re.compile(r'chain_id="(\d+)"')
_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"mesh\[([^\]]*)\](?:, device_ids=\(([\d,\s]*|\[[\d,]+\](?:T\([\d,]+\))?)\))?\s*\{([^}]*)\}"
)
_TRANSPOSED = re.compile(r"\[([\d,]+)\](?:T\(([\d,]+)\))?")
_SUB_AXIS = re.compile(r"(.*?)(?::\((\d+)\)(\d+))?$")


@dataclass(frozen=True)
class Collective:
    """One collective operation; bytes and wire bytes of all its executions, per device.

    tensors: the full tensors (gathered, to be reduced, exchanged). group_size: devices that take
    part together. computation: where it stands; for a fused one, where its fusion does.
    argument: the program's argument that alone it carries, such as params['mlp'], or empty.
    times: executions per run of the program; not exact (`exact` False) in a loop whose trip
    count cannot be told.
    """

    kind: str
    tensors: tuple[Shape, ...]
    group_size: int
    op_name: str
    argument: str
    computation: str
    times: int
    exact: bool
    bytes: int
    wire_bytes: int

    @property
    def dtype(self) -> str:
        """The element types of its tensors, joined by + where they differ."""
        return "+".join(sorted({tensor.dtype for tensor in self.tensors}))

    @property
    def shape(self) -> str:
        """The shapes of its tensors, such as bf16[2048,7168]."""
        return ", ".join(map(str, self.tensors))


class CollectiveTotals(TypedDict):
    """Sums over one kind; `dtypes` splits `bytes` by element type."""

    count: int
    bytes: int
    wire_bytes: int
    dtypes: dict[str, int]


def collectives(program: Program) -> dict[str, CollectiveTotals]:
    """Executions, tensor bytes and bytes on the wire per device and run, by kind.

    Loop trip counts are applied; a start and its done count once. On the wire, in a group of n:
    all-gather, reduce-scatter, all-to-all and the fused all-reduce-scatter (n-1)/n of the full
    tensor, all-reduce 2(n-1)/n, collective-permute 1. `warnings` says what could not be counted.
    """
    totals: dict[str, CollectiveTotals] = {}
    for found in list_collectives(program):
        total = totals.setdefault(
            found.kind, {"count": 0, "bytes": 0, "wire_bytes": 0, "dtypes": {}}
        )
        total["count"] += found.times
        total["bytes"] += found.bytes
        total["wire_bytes"] += found.wire_bytes
        for tensor in found.tensors:
            before = total["dtypes"].get(tensor.dtype, 0)
            total["dtypes"][tensor.dtype] = before + tensor.bytes * found.times
    return totals


def list_collectives(program: Program) -> list[Collective]:
    """Every collective operation, those with the most wire bytes first.

    A TPU may spread one over several fusions, to overlap it with what these compute: in each it
    stands again, as a piece of the same chain, and counts once.
    """
    listed = []
    counted: set[tuple[str, str]] = set()
    for name, executions in walk(program).executions.items():
        for instruction in program.computations[name].instructions.values():
            if instruction.opcode.removesuffix("-start") not in COLLECTIVE_KINDS:
                continue
            spread = chain(instruction)
            if spread is not None:
                if (executions.within, spread) in counted:
                    continue
                counted.add((executions.within, spread))
            listed.append(describe_collective(program, program.computations[name], instruction))
    return sorted(listed, key=lambda collective: -collective.wire_bytes)


def chain(instruction: Instruction) -> str | None:
    """What the pieces of one collective that is spread over fusions share; None for a whole one."""
    if "async_collective_fusion_config" not in instruction.attributes.get("backend_config", ""):
        return None
    found = _CHAIN.search(instruction.attributes.get("frontend_attributes", ""))
    return found[1] if found else instruction.attributes.get("channel_id")


def describe_collective(
    program: Program, computation: Computation, instruction: Instruction
) -> Collective:
    """What one collective in a computation of the program moves."""
    found = walk(program)
    executions = found.executions[computation.name]
    kind = instruction.opcode.removesuffix("-start")
    if executions.caller is not None and _is_scattered(computation, instruction):
        kind = FUSED_ALL_REDUCE_SCATTER
    if kind == "all-gather":
        # The result of a start is (operand, gathered tensor, ...).
        shape = instruction.shape.elements[1] if "-start" in instruction.opcode else None
        tensors = (shape or instruction.shape).arrays
    else:
        tensors = tuple(operand.shape for operand in computation.operands(instruction))
    size = group_size(instruction, program.devices)
    once = sum(tensor.bytes for tensor in tensors)
    caller = executions.caller or instruction
    return Collective(
        kind=kind,
        tensors=tensors,
        group_size=size,
        op_name=instruction.op_name or caller.op_name,
        argument=found.arguments.get(instruction, ""),
        computation=executions.within or computation.name,
        times=executions.times,
        exact=executions.exact,
        bytes=once * executions.times,
        wire_bytes=_wire_bytes(kind, once, size) * executions.times,
    )


def _is_scattered(computation: Computation, reduction: Instruction) -> bool:
    """Whether each device of a fused all-reduce keeps a slice: the TPU's reduce-scatter."""
    if reduction.opcode != "all-reduce":
        return False
    parts = {reduction.name}
    for instruction in computation.instructions.values():
        if parts.isdisjoint(instruction.operands):
            continue
        if instruction.opcode == "dynamic-slice":
            return True
        if instruction.opcode in ("get-tuple-element", "bitcast", "convert", "copy"):
            parts.add(instruction.name)
    return False


def _wire_bytes(kind: str, full: int, size: int) -> int:
    if kind == "collective-permute":
        return full
    return full * (size - 1) // size * (2 if kind == "all-reduce" else 1)


def group_size(instruction: Instruction, devices: int) -> int:
    """How many devices take part together in a collective; `devices` when all do."""
    groups = replica_groups(instruction.attributes.get("replica_groups", ""), devices)
    return max(map(len, groups))


def has_unreadable_groups(instruction: Instruction) -> bool:
    """Whether its groups are written in a way unheard of, so that it is taken to be of all."""
    text = instruction.attributes.get("replica_groups", "").strip()
    return text not in ("", "{}") and not _groups(text)


def replica_groups(text: str, devices: int) -> list[list[int]]:
    """Device numbers of each group, from any of XLA's ways to write them.

    {{0,1},{2,3}}; [2,4]<=[8] and [4,2]<=[2,4]T(1,0), groups by size over reshaped and transposed
    0..n-1; mesh['a'=2,'b'=4] {'b'}, also with sub-axes 'b':(1)2 and ", device_ids=(...)", which are
    listed or as [2,4]T(1,0). Empty, or unheard of: one group of all devices.
    """
    return _groups(text.strip()) or [list(range(devices))]


def _groups(text: str) -> list[list[int]]:
    """The groups, none where the text names none or cannot be read."""
    if found := _IOTA.fullmatch(text):
        groups, shape, order = found.groups()
        return _transposed(shape, order).reshape(_integers(groups)).tolist()
    if found := _MESH.fullmatch(text):
        return _mesh_groups(*found.groups())
    return [_integers(group) for group in re.findall(r"\{([\d,\s]+)\}", text)]


def _transposed(shape: str, order: str | None) -> np.ndarray:
    """0..n-1 in that shape, its axes in that order."""
    numbers = np.arange(math.prod(_integers(shape))).reshape(_integers(shape))
    return numbers.transpose(_integers(order)) if order else numbers


def _mesh_groups(mesh: str, device_ids: str | None, grouped: str) -> list[list[int]]:
    """Groups over the axes named in `grouped`, in that order; a sub-axis 'a':(2)4 has 2 before."""
    sizes = {name: int(size) for name, _, size in (a.rpartition("=") for a in mesh.split(","))}
    axes = [_SUB_AXIS.fullmatch(axis) for axis in grouped.split(",") if axis]
    wanted = [(axis[1], int(axis[2] or 1), int(axis[3] or sizes[axis[1]])) for axis in axes if axis]
    dimensions: list[tuple[str, int, int]] = []  # axis, its product so far, size
    for name, size in sizes.items():
        ends = {before for axis, before, _ in wanted if axis == name}
        ends |= {before * count for axis, before, count in wanted if axis == name}
        edges = sorted({1, size} | ends)
        pairs = list(itertools.pairwise(edges)) or [(1, 1)]
        dimensions += [(name, low, high // low) for low, high in pairs]
    if found := _TRANSPOSED.fullmatch(device_ids or ""):
        numbers = _transposed(*found.groups())
    else:
        listed = _integers(device_ids) if device_ids else range(math.prod(sizes.values()))
        numbers = np.array(listed)
    last = [dimensions.index(axis) for axis in wanted]
    first = [index for index in range(len(dimensions)) if index not in last]
    shaped = numbers.reshape([count for _, _, count in dimensions]).transpose(first + last)
    return shaped.reshape(-1, math.prod(count for _, _, count in wanted)).tolist()


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip()]
