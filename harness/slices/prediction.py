"""How long a step will take: the compiled program's schedule, played through with a few constants.

The operations run one after another in the order the compiler scheduled them. Each takes its
estimated cycles at the chip's clock; the estimates hold the traffic of the device's memory (the
optimizer's fusion of n bytes is estimated at n / 1.6e12 s). A collective takes its bytes on the
wire through the rings the compiler chose, and nothing else runs meanwhile unless it was split into
a start and a done: then what is scheduled between them hides it. One that is spread over fusions is
hidden by what these compute, and by nothing else: they pass its pieces on. Nothing is fitted.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import hardware, hlo
from harness.hlo import Program
from harness.slices.playing import Schedule, kernel_flops, kernel_rate, rings

_PUBLISHED = Path(__file__).with_name("published_runs.json")

_PUBLISHED_ON = "TPU v6 lite"
_ASSUMED = "the constants of this chip are assumed: no published run checks them"


def predict(program: Program, device_kind: str) -> dict[str, Any]:
    """The record's `prediction`: step_seconds (None for a chip without constants) and its parts."""
    device = hardware.find(device_kind)
    if device is None or device.chip is None:
        return {"step_seconds": None}
    times = Schedule(program, device, device.chip).play(program.entry)
    return {
        "step_seconds": times.step_seconds,
        **asdict(times),
        "matmul_tflop": sum(matmul.flops for matmul in hlo.matmuls(program)) / 1e12,
        "constants": asdict(device.chip),
        "caution": _ASSUMED if device.chip.assumed else _caution(program),
        "checked_against": check() if _PUBLISHED_ON in device.kinds else [],
    }


def check() -> list[dict[str, Any]]:
    """The model's errors on the published runs, from the counts of MaxText's compiled programs.

    Of those programs only sums are known, so nothing is taken as hidden: each time is the longest
    that the model allows, and `hidden_step_seconds` the shortest, with every permute hidden.
    """
    checked = []
    for run in json.loads(_PUBLISHED.read_text())["runs"]:
        step, hidden_step = of_sums(run)
        measured = run["measured_step_seconds"]
        checked.append(
            {
                "run": run["run"],
                "measured_step_seconds": measured,
                "step_seconds": step,
                "error_percent": 100 * (step / measured - 1),
                "hidden_step_seconds": hidden_step,
                "explanation": run["explanation"],
            }
        )
    return checked


def of_sums(sums: Mapping[str, Any]) -> tuple[float, float]:
    """The longest and the shortest step, with no or all permutes hidden, by a program's sums alone.

    sums: fusion_cycles, wire_bytes, of these permute_bytes, layers, and attention, of which a layer
    calls the kernels: heads of the batch, sequence length, head width; on a v6e.
    """
    device = hardware.find(_PUBLISHED_ON)
    assert device is not None
    assert device.chip is not None
    chip = device.chip
    kernels = sums["layers"] * (
        kernel_flops("fwd", *sums["attention"]) * 2
        + kernel_flops("dq", *sums["attention"])
        + kernel_flops("dkv", *sums["attention"])
    )
    step = (
        sums["fusion_cycles"] / chip.clock_hz
        + kernels / kernel_rate(sums["attention"][2], device, chip)
        + sums["wire_bytes"] / chip.link_bytes_per_second
    )
    return step, step - sums["permute_bytes"] / chip.link_bytes_per_second


def _caution(program: Program) -> str | None:
    """Why the errors on the published runs say less of this program."""
    configs = (
        instruction.attributes.get("backend_config", "")
        for name in hlo.walk(program).executions
        for instruction in program.computations[name].instructions.values()
    )
    most = max(map(rings, configs))
    if most == 1:
        return None
    return f"up to {most:g} rings at once here, one in the published runs: the wire is unchecked"
