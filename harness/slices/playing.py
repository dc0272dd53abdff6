"""A compiled program's schedule, played through: what its operations take and what hides what."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from harness import hlo
from harness.hardware import Chip, Device
from harness.hlo import (
    COLLECTIVE_KINDS,
    Computation,
    Instruction,
    Program,
    chain,
    describe_collective,
    references,
)

_COLOURS = re.compile(r"colors:(\d+)")
# Of a collective that a SparseCore moves.
_OFFLOADED_RING = '"phase_rings"'
_ALONG_A_LINE = '_MESH"'
_KERNEL = re.compile(r"_(fwd|dq|dkv)_")
# Products of [T, H] by [H, T] or [T, T] by [T, H] in each kernel of splash attention.
_KERNEL_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_KERNEL_BLOCK = 512


@dataclass(frozen=True)
class Times:
    """Seconds of one step, by what they are spent on.

    compute: estimated cycles. kernel: Pallas attention, at the matrix unit's peak. wire: all
    collectives, and of these exposed_wire what nothing hides. exposed_copy: waiting for
    asynchronous copies between memories.
    """

    compute_seconds: float = 0.0
    kernel_seconds: float = 0.0
    wire_seconds: float = 0.0
    exposed_wire_seconds: float = 0.0
    exposed_copy_seconds: float = 0.0

    def plus(self, other: "Times", times: float = 1) -> "Times":
        """The sum, with `other` taken so many times."""
        return Times(
            *(getattr(self, f.name) + times * getattr(other, f.name) for f in fields(Times))
        )

    @property
    def step_seconds(self) -> float:
        """What the step takes in all."""
        return (
            self.compute_seconds
            + self.kernel_seconds
            + self.exposed_wire_seconds
            + self.exposed_copy_seconds
        )


class Schedule:
    """Plays a program's operations in their order."""

    def __init__(self, program: Program, device: Device, chip: Chip) -> None:
        self._program = program
        self._device = device
        self._chip = chip
        found = hlo.walk(program)
        self._trips = {loop.name: 1 if loop.trips is None else loop.trips for loop in found.loops}
        self._taken = {one.name: one.taken for one in found.conditionals}

    def play(self, computation: Computation) -> Times:
        """The seconds of one execution of the computation."""
        total = Times()
        wire, copies = _Queue(), _Queue()
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode == "while":
                body = references(instruction.attributes["body"])[0]
                trips = self._trips[instruction.name]
                if trips:
                    total = total.plus(self.play(self._program.computations[body]), trips)
                continue
            if opcode in ("call", "conditional"):
                total = total.plus(self._called(instruction))
                continue
            started = opcode.removesuffix("-done")
            if started != opcode:
                total = total.plus(
                    Times(
                        exposed_wire_seconds=wire.wait(instruction.operands[0]),
                        exposed_copy_seconds=copies.wait(instruction.operands[0]),
                    )
                )
                continue
            whole, pieces = self._transfers(computation, instruction)
            now = self._alone(computation, instruction, whole)
            if pieces:
                now = now.plus(self._passed_on(instruction, pieces, wire))
            if opcode.endswith("-start"):
                if now.wire_seconds:
                    wire.add(instruction.name, now.wire_seconds)
                    total = total.plus(Times(wire_seconds=now.wire_seconds))
                else:
                    copies.add(instruction.name, self._copy_seconds(instruction))
                continue
            # Collectives share the links, so one that waits for the wire hides none of another.
            wire.advance(now.compute_seconds + now.kernel_seconds, pieces)
            copies.advance(now.step_seconds)
            total = total.plus(now)
        return total

    def _called(self, instruction: Instruction) -> Times:
        """Of one execution: the mean of its branches by how often each runs, else the longest."""
        taken = self._taken.get(instruction.name)
        if taken is None:
            called = [self.play(self._program.computations[name]) for name in instruction.called]
            return max(called, key=lambda times: times.step_seconds)
        total = Times()
        for name, times in zip(instruction.called, taken, strict=True):
            if times:
                branch = self.play(self._program.computations[name])
                total = total.plus(branch, times / sum(taken))
        return total

    def _alone(self, computation: Computation, instruction: Instruction, wire: float) -> Times:
        """One execution of one operation with nothing beside it, `wire` of it on the wire."""
        return Times(
            compute_seconds=(instruction.cycles or 0) / self._chip.clock_hz,
            kernel_seconds=self._kernel_seconds(computation, instruction),
            wire_seconds=wire,
            exposed_wire_seconds=wire,
        )

    def _transfers(
        self, computation: Computation, instruction: Instruction
    ) -> tuple[float, dict[str, float]]:
        """Seconds of its collectives; and of each, by chain, that it has but a piece of."""
        whole, pieces = 0.0, {}
        for caller, inner in self._with_fused(computation, instruction):
            if inner.opcode.removesuffix("-start") in COLLECTIVE_KINDS:
                seconds, name = self._wire_seconds(caller, inner, instruction), chain(inner)
                if name is None:
                    whole += seconds
                else:
                    pieces[name] = seconds
        return whole, pieces

    def _with_fused(
        self, computation: Computation, instruction: Instruction
    ) -> list[tuple[Computation, Instruction]]:
        if instruction.opcode not in ("fusion", "async-start", "call-start"):
            return [(computation, instruction)]
        called = (self._program.computations[name] for name in instruction.called)
        return [(callee, inner) for callee in called for inner in callee.instructions.values()]

    def _passed_on(self, fusion: Instruction, pieces: dict[str, float], wire: "_Queue") -> Times:
        """What these pieces take: the first begins the transfer, the last waits for its end."""
        end = self._program.computations[fusion.called[0]].root.target
        if end == "AsyncCollectiveStart":
            for name, seconds in pieces.items():
                wire.add(name, seconds, is_carried=True)
            return Times(wire_seconds=sum(pieces.values()))
        if end == "AsyncCollectiveDone":
            return Times(exposed_wire_seconds=sum(map(wire.wait, pieces)))
        return Times()

    def _wire_seconds(
        self, computation: Computation, collective: Instruction, caller: Instruction
    ) -> float:
        """Its bytes through as many rings as the compiler made, each over one link one way."""
        found = describe_collective(self._program, computation, collective)
        configs = (one.attributes.get("backend_config", "") for one in (collective, caller))
        hops = 1 if found.kind == "collective-permute" else found.group_size - 1
        size = found.wire_bytes / found.times
        rate = max(map(rings, configs)) * self._chip.link_bytes_per_second
        return max(hops * self._chip.hop_seconds, size / rate)

    def _kernel_seconds(self, computation: Computation, instruction: Instruction) -> float:
        """Of a kernel of splash attention; other kernels are taken to cost nothing."""
        kernel = _KERNEL.search(instruction.name)
        if instruction.target != "tpu_custom_call" or kernel is None:
            return 0.0
        operands = (operand.shape.dimensions for operand in computation.operands(instruction))
        *heads, length, width = max(operands, key=math.prod)  # of query, key and value alike
        flops = kernel_flops(kernel[1], math.prod(heads), length, width)
        return flops / kernel_rate(width, self._device, self._chip)

    def _copy_seconds(self, start: Instruction) -> float:
        sizes = [array.bytes for array in start.shape.arrays if not array.is_index]
        return min(sizes, default=0) / self._device.hbm_bytes_per_second


def rings(backend_config: str) -> float:
    """How many rings the compiler made for a collective, each over links of its own.

    Along a line of chips, which is no ring of links, its two directions share the links.
    """
    offloaded = backend_config.count(_OFFLOADED_RING)
    if offloaded:
        return max(offloaded / 2, 1) if _ALONG_A_LINE in backend_config else offloaded
    return max(map(int, _COLOURS.findall(backend_config)), default=1)


def kernel_flops(kernel: str, heads: int, length: int, width: int) -> float:
    """Of all heads; blocks of the mask above the diagonal are skipped, those on it are not."""
    blocks = max(length // _KERNEL_BLOCK, 1)
    computed = (blocks + 1) / (2 * blocks)
    return _KERNEL_PRODUCTS[kernel] * 2 * heads * length**2 * width * computed


def kernel_rate(width: int, device: Device, chip: Chip) -> float:
    """FLOP/s of a kernel whose heads are so wide, at the peak of the units that it fills."""
    return device.bf16_tflop_per_second * 1e12 * min(1, width / chip.matrix_unit)


class _Queue:
    """Transfers under way, served one after another while time passes."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._carried: set[str] = set()

    def add(self, name: str, seconds: float, is_carried: bool = False) -> None:
        """Begins a transfer; one that is carried moves only with what carries it."""
        self._left[name] = seconds
        if is_carried:
            self._carried.add(name)

    def advance(self, seconds: float, carrying: Iterable[str] = ()) -> None:
        """Lets time pass."""
        standing = self._carried.difference(carrying)
        for name, left in self._left.items():
            if name not in standing:
                served = min(left, seconds)
                self._left[name] -= served
                seconds -= served

    def wait(self, name: str) -> float:
        """The seconds until this transfer and those before it are over; 0 for an unknown one."""
        if name not in self._left:
            return 0.0
        waited = 0.0
        for before in self._left:
            waited += self._left[before]
            self._left[before] = 0.0
            if before == name:
                break
        del self._left[name]
        return waited
