"""How long a step will take: the compiled program's schedule, played through with a few constants.

The operations run one after another in the order the compiler scheduled them. Each takes its
estimated cycles at the chip's clock; the estimates hold the traffic of the device's memory (the
optimizer's fusion of n bytes is estimated at n / 1.6e12 s). A collective takes its bytes on the
wire through the rings the compiler chose, and nothing else runs meanwhile unless it was split into
a start and a done: then what is scheduled between them hides it. Nothing is fitted.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness import accounting, hlo
from harness.hlo import Computation, Instruction, Program
from harness.hlo.collectives import KINDS, describe
from harness.hlo.parse import references

_PUBLISHED = Path(__file__).with_name("published_runs.json")

_COLOURS = re.compile(r"colors:(\d+)")
_KERNEL = re.compile(r"_(fwd|dq|dkv)_")
# Products of [T, H] by [H, T] or [T, T] by [T, H] in each kernel of splash attention.
_KERNEL_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_KERNEL_BLOCK = 512


@dataclass(frozen=True)
class Chip:
    """What the model knows of a chip beside accounting.device_limits.

    clock_hz: of the TensorCore. link_bytes_per_second: of one inter-chip link, one way.
    hop_seconds: until the next chip has the first byte. matrix_unit: its width; products with
    fewer rows or columns leave the rest of it idle.
    """

    clock_hz: float
    link_bytes_per_second: float
    hop_seconds: float
    matrix_unit: int


# Sources. Links and hops: "How to Scale Your Model" (jax-ml.github.io/scaling-book), chapters
# "How to Think About TPUs" (v5e 5e10, v6e 1e11 bytes/s one way; the same as a quarter of half the
# bidirectional figure in Google's "System architecture" tables) and "Sharded Matrices" (about 1
# microsecond a hop). Widths: the same. Clocks: the published bfloat16 peak over the operations of a
# cycle (v5e 4 units of 128 x 128, v6e 4 of 256 x 256, two each). Chips of two cores are left out:
# how these share a program's estimated cycles is not published.
CHIPS = {
    "TPU v5 lite": Chip(1.5e9, 5e10, 1e-6, 128),
    "TPU v6 lite": Chip(1.75e9, 1e11, 1e-6, 256),
}


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

    def plus(self, other: "Times", times: int = 1) -> "Times":
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


def predict(program: Program, device_kind: str) -> dict[str, Any]:
    """The record's `prediction`: step_seconds (None for a chip without constants) and its parts."""
    chip, limits = CHIPS.get(device_kind), accounting.device_limits(device_kind)
    if chip is None or limits is None:
        return {"step_seconds": None}
    schedule = _Schedule(program, chip, limits.bf16_tflop_per_second, limits.hbm_bytes_per_second)
    times = schedule.play(program.entry)
    return {
        "step_seconds": times.step_seconds,
        **asdict(times),
        "matmul_tflop": sum(matmul.flops for matmul in hlo.matmuls(program)) / 1e12,
        "constants": asdict(chip),
        "caution": _caution(program),
        "checked_against": check() if chip == CHIPS["TPU v6 lite"] else [],
    }


def check() -> list[dict[str, Any]]:
    """The model's errors on the published runs, from the counts of MaxText's compiled programs.

    Of those programs only sums are known, so nothing is taken as hidden: each time is the longest
    that the model allows, and `hidden_step_seconds` the shortest, with every permute hidden.
    """
    chip, limits = CHIPS["TPU v6 lite"], accounting.device_limits("TPU v6 lite")
    assert limits is not None
    checked = []
    for run in json.loads(_PUBLISHED.read_text())["runs"]:
        wire = run["wire_bytes"] / chip.link_bytes_per_second
        hidden = run["permute_bytes"] / chip.link_bytes_per_second
        kernels = run["layers"] * (
            _kernel_flops("fwd", *run["attention"]) * 2
            + _kernel_flops("dq", *run["attention"])
            + _kernel_flops("dkv", *run["attention"])
        )
        step = (
            run["fusion_cycles"] / chip.clock_hz
            + kernels / _kernel_rate(run["attention"][2], chip, limits.bf16_tflop_per_second)
            + wire
        )
        measured = run["measured_step_seconds"]
        checked.append(
            {
                "run": run["run"],
                "measured_step_seconds": measured,
                "step_seconds": step,
                "error_percent": 100 * (step / measured - 1),
                "hidden_step_seconds": step - hidden,
                "explanation": run["explanation"],
            }
        )
    return checked


def _caution(program: Program) -> str | None:
    """Why the errors on the published runs say less of this program."""
    configs = (
        instruction.attributes.get("backend_config", "")
        for name in hlo.walk(program).executions
        for instruction in program.computations[name].instructions.values()
    )
    rings = max((int(count) for config in configs for count in _COLOURS.findall(config)), default=1)
    if rings == 1:
        return None
    return f"up to {rings} rings at once here, one in the published runs: the wire is unchecked"


class _Schedule:
    """Plays a program's operations in their order."""

    def __init__(
        self, program: Program, chip: Chip, peak_tflops: float, memory_bytes_per_second: float
    ) -> None:
        self._program = program
        self._chip = chip
        self._peak_tflops = peak_tflops
        self._memory = memory_bytes_per_second
        self._trips = {loop.name: loop.trips or 1 for loop in hlo.walk(program).loops}

    def play(self, computation: Computation) -> Times:
        """The seconds of one execution of the computation."""
        total = Times()
        wire, copies = _Queue(), _Queue()
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode == "while":
                body = references(instruction.attributes["body"])[0]
                trip = self.play(self._program.computations[body])
                total = total.plus(trip, self._trips[instruction.name])
                continue
            if opcode in ("call", "conditional"):
                called = [self.play(self._program.computations[n]) for n in instruction.called]
                total = total.plus(max(called, key=lambda times: times.step_seconds))
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
            now = self._alone(computation, instruction)
            if opcode.endswith("-start"):
                if now.wire_seconds:
                    wire.add(instruction.name, now.wire_seconds)
                    total = total.plus(Times(wire_seconds=now.wire_seconds))
                else:
                    copies.add(instruction.name, self._copy_seconds(instruction))
                continue
            # Collectives share the links, so one that waits for the wire hides none of another.
            wire.advance(now.compute_seconds + now.kernel_seconds)
            copies.advance(now.step_seconds)
            total = total.plus(now)
        return total

    def _alone(self, computation: Computation, instruction: Instruction) -> Times:
        """One execution of one operation with nothing beside it."""
        wire = sum(
            self._wire_seconds(caller, inner, instruction)
            for caller, inner in self._with_fused(computation, instruction)
            if inner.opcode.removesuffix("-start") in KINDS
        )
        return Times(
            compute_seconds=(instruction.cycles or 0) / self._chip.clock_hz,
            kernel_seconds=self._kernel_seconds(computation, instruction),
            wire_seconds=wire,
            exposed_wire_seconds=wire,
        )

    def _with_fused(
        self, computation: Computation, instruction: Instruction
    ) -> list[tuple[Computation, Instruction]]:
        if instruction.opcode not in ("fusion", "async-start", "call-start"):
            return [(computation, instruction)]
        called = (self._program.computations[name] for name in instruction.called)
        return [(callee, inner) for callee in called for inner in callee.instructions.values()]

    def _wire_seconds(
        self, computation: Computation, collective: Instruction, caller: Instruction
    ) -> float:
        """Its bytes through as many rings as the compiler made, each over one link one way."""
        found = describe(self._program, computation, collective)
        config = caller.attributes.get("backend_config", "")
        rings = max(map(int, _COLOURS.findall(config)), default=1)
        hops = 1 if found.kind == "collective-permute" else found.group_size - 1
        size = found.wire_bytes / found.times
        rate = rings * self._chip.link_bytes_per_second
        return max(hops * self._chip.hop_seconds, size / rate)

    def _kernel_seconds(self, computation: Computation, instruction: Instruction) -> float:
        """Of a kernel of splash attention; other kernels are taken to cost nothing."""
        kernel = _KERNEL.search(instruction.name)
        if instruction.target != "tpu_custom_call" or kernel is None:
            return 0.0
        operands = (operand.shape.dimensions for operand in computation.operands(instruction))
        *heads, length, width = max(operands, key=math.prod)  # of query, key and value alike
        flops = _kernel_flops(kernel[1], math.prod(heads), length, width)
        return flops / _kernel_rate(width, self._chip, self._peak_tflops)

    def _copy_seconds(self, start: Instruction) -> float:
        sizes = [array.bytes for array in start.shape.arrays if not array.is_index]
        return min(sizes, default=0) / self._memory


def _kernel_flops(kernel: str, heads: int, length: int, width: int) -> float:
    """Of all heads; blocks of the mask above the diagonal are skipped, those on it are not."""
    blocks = max(length // _KERNEL_BLOCK, 1)
    computed = (blocks + 1) / (2 * blocks)
    return _KERNEL_PRODUCTS[kernel] * 2 * heads * length**2 * width * computed


def _kernel_rate(width: int, chip: Chip, peak_tflops: float) -> float:
    return peak_tflops * 1e12 * min(1, width / chip.matrix_unit)


class _Queue:
    """Transfers under way, served one after another while time passes."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Begins a transfer."""
        self._left[name] = seconds

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        for name, left in self._left.items():
            served = min(left, seconds)
            self._left[name] -= served
            seconds -= served

    def wait(self, name: str) -> float:
        """The seconds until this transfer and those before it are over; 0 for an unknown one."""
        if name not in self._left:
            return 0.0
        position = list(self._left).index(name) + 1
        waited = sum(list(self._left.values())[:position])
        self.advance(waited)
        del self._left[name]
        return waited
