"""The compiler's cycle estimates, and every matrix product of a program."""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from harness.hlo.collectives import list_collectives
from harness.hlo.loops import walk
from harness.hlo.parse import Computation, Instruction, Program, Shape

_ASYNC_COPIES = ("copy-start", "slice-start", "dynamic-slice-start", "dynamic-update-slice-start")
_WINDOW = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True)
class Cycles:
    """One operation with a cycle estimate: `total` of all its executions."""

    instruction: Instruction
    times: int
    total: int


@dataclass(frozen=True)
class Matmul:
    """One dot, convolution or GPU matmul call; `flops` of all its executions, per device."""

    instruction: Instruction
    lhs: Shape
    rhs: Shape
    result: Shape
    op_name: str
    times: int
    exact: bool
    flops: int

    @property
    def dtypes(self) -> str:
        """Such as s8 x s8 -> s32."""
        return f"{self.lhs.dtype} x {self.rhs.dtype} -> {self.result.dtype}"


def fusion_cycles(program: Program) -> int | None:
    """The compiler's estimated cycles of all operations, loop trip counts applied.

    Fusions, copies and single operations of a TPU program carry one. None where no operation
    does (CPU, GPU). Left out: what `uncosted` counts.
    """
    listed = list_cycles(program)
    return sum(operation.total for operation in listed) if listed else None


def list_cycles(program: Program) -> list[Cycles]:
    """Every operation with an estimate, the costliest first."""
    listed = [
        Cycles(instruction, executions.times, instruction.cycles * executions.times)
        for name, executions in walk(program).executions.items()
        if executions.caller is None  # within a fusion, the fusion's own estimate counts
        for instruction in program.computations[name].instructions.values()
        if instruction.cycles is not None
    ]
    return sorted(listed, key=lambda operation: -operation.total)


def uncosted(program: Program) -> dict[str, int]:
    """Executions of what carries no estimate: pallas_calls, collectives, async_copies."""
    counts: Counter[str] = Counter(pallas_calls=0, collectives=0, async_copies=0)
    for name, executions in walk(program).executions.items():
        for instruction in program.computations[name].instructions.values():
            if instruction.target == "tpu_custom_call":
                counts["pallas_calls"] += executions.times
            elif instruction.opcode in _ASYNC_COPIES:
                counts["async_copies"] += executions.times
    counts["collectives"] = sum(found.times for found in list_collectives(program))
    return dict(counts)


def matmuls(program: Program) -> list[Matmul]:
    """Every matrix product, also inside fusions, the largest first.

    FLOPs are 2 x M x N x K x trips; of a convolution (what a TPU makes of a dot) the
    multiplications that meet padding are not counted. Pallas kernels and cuDNN calls are opaque:
    what they multiply is not in here.
    """
    listed = []
    for name, executions in walk(program).executions.items():
        computation = program.computations[name]
        for instruction in computation.instructions.values():
            flops = _flops(computation, instruction)
            if flops is None:
                continue
            lhs, rhs = (operand.shape for operand in computation.operands(instruction)[:2])
            caller = executions.caller or instruction
            listed.append(
                Matmul(
                    instruction=instruction,
                    lhs=lhs,
                    rhs=rhs,
                    result=instruction.shape.arrays[0],
                    op_name=instruction.op_name or caller.op_name,
                    times=executions.times,
                    exact=executions.exact,
                    flops=flops * executions.times,
                )
            )
    return sorted(listed, key=lambda matmul: -matmul.flops)


def _flops(computation: Computation, instruction: Instruction) -> int | None:
    """Of one execution; None for anything but a matrix product."""
    if instruction.opcode == "dot":
        lhs = computation.operands(instruction)[0].shape
        contracted = _numbers(instruction.attributes.get("lhs_contracting_dims", ""))
    elif instruction.opcode == "convolution":
        return _convolution_flops(computation, instruction)
    elif instruction.target.startswith("__cublas$") and "contracting" in (
        config := instruction.attributes.get("backend_config", "")
    ):
        lhs = computation.operands(instruction)[0].shape
        dimensions = json.loads(config)["gemm_backend_config"]["dot_dimension_numbers"]
        contracted = [int(index) for index in dimensions["lhs_contracting_dimensions"]]
    else:
        return None
    width = math.prod(lhs.dimensions[index] for index in contracted)
    return 2 * math.prod(instruction.shape.arrays[0].dimensions) * width


def _convolution_flops(computation: Computation, instruction: Instruction) -> int:
    lhs, rhs = (operand.shape for operand in computation.operands(instruction))
    left, right, out = re.split("_|->", instruction.attributes["dim_labels"])
    window = dict(_WINDOW.findall(instruction.attributes.get("window", "").strip("{}")))
    sizes = dict(zip(right, rhs.dimensions, strict=True))
    results = dict(zip(out, instruction.shape.dimensions, strict=True))
    inputs = dict(zip(left, lhs.dimensions, strict=True))
    products = results["b"] * results["f"] * sizes["i"]
    for index, label in enumerate(sorted(set(out) - {"b", "f"}, key=int)):
        products *= _meetings(window, index, inputs[label], sizes[label], results[label])
    return 2 * products


def _meetings(window: dict[str, str], index: int, data: int, kernel: int, result: int) -> int:
    """Pairs of kernel and output position along one spatial dimension that meet real data."""

    def setting(key: str, default: str) -> str:
        return window[key].split("x")[index] if key in window else default

    stride, spread, step = (
        int(setting(key, "1")) for key in ("stride", "lhs_dilate", "rhs_dilate")
    )
    low = int(setting("pad", "0_0").split("_")[0])
    extent = (data - 1) * spread + 1
    positions = np.arange(result)[:, None] * stride - low + np.arange(kernel)[None, :] * step
    meets = (positions >= 0) & (positions < extent) & (positions % spread == 0)
    return int(meets.sum())


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
