"""What a step trains and what it was compiled into, as the record tells it."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from harness import hlo
from harness.cases import families
from harness.cases.settings import Case
from harness.training import accounting, data, train_step
from harness.training.compiler_options import Options
from harness.training.train_step import Trainer
from models.decoder.config import ModelConfig
from models.decoder.sites import QUANTIZED

# A program may well multiply more than a family's formula counts, which leaves out half of causal
# attention (up to its share again) and what remat computes again (at most all of the forward
# pass, one third of the formula, so 4/3). Beyond that and 1.5 times the formula, work is wasted.
_REMAT = 4 / 3
_WASTED = 1.5


def describe_model(case: Case, trainer: Trainer) -> dict[str, Any]:
    """The keys of the record's `model`."""
    params = trainer.state["params"]
    batch = data.global_batch(case, trainer.mesh.size) // trainer.mesh.size
    tflop, attention_percent = _tflop(case, batch)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    return {
        "parameters": accounting.parameter_count(params),
        "parameters_per_device": accounting.parameters_per_device(params, shardings),
        "tflop_per_step_per_device": tflop,
        "attention_tflop_percent": attention_percent,
        "attention": getattr(trainer.model, "attention", None),
    }


def _tflop(case: Case, batch: int) -> tuple[float | None, float | None]:
    if isinstance(case.model, ModelConfig):
        return accounting.tflop_per_step(case.model, case.data.sequence_length, batch)
    count = families.load(case.twins).tflop_per_step
    return (None, None) if count is None else count(case.model, case.data.sequence_length, batch)


def unknown_of_model(described: dict[str, Any]) -> list[str]:
    """Warnings of what twins from elsewhere do not say of themselves."""
    if described["tflop_per_step_per_device"] is not None:
        return []
    return ["no TFLOP and no MFU: the twins have no tflop_per_step"]


def describe(
    stablehlo_sha256: str, program: hlo.Program, options: Options, quantization: str
) -> dict[str, Any]:
    """The keys of the record's `program`; of `quantized`, [] when nothing was to be quantised."""
    collectives = hlo.collectives(program)
    return {
        "stablehlo_sha256": stablehlo_sha256,
        "optimized_sha256": hlo.fingerprint(program),
        "fusion_cycles": hlo.fusion_cycles(program),
        "wire_bytes": sum(entry["wire_bytes"] for entry in collectives.values()),
        "inexact": hlo.inexact(program),
        "collectives": {
            kind: {"count": entry["count"], "bytes": entry["wire_bytes"]}
            for kind, entry in collectives.items()
        },
        "quantized": quantized_matmuls(program) if quantization != "none" else [],
        "compiler_options": options,
    }


def warnings(program: hlo.Program, model: Mapping[str, Any]) -> list[str]:
    """What a reader must know of a step's program; `model` is the record's."""
    found = _wasted(program, model)
    return hlo.warnings(program) + ([] if found is None else [found])


def wasted(program: hlo.Program, tflop: float, attention_percent: float) -> str | None:
    """A line when one device multiplies more than the formula's `tflop` explains, else None.

    Kernels whose products cannot be seen make a program look smaller and are never told of; nor
    is what may run less often than it counts.
    """
    multiplied = sum(one.flops for one in hlo.matmuls(program) if one.exact) / 1e12
    if multiplied <= tflop * max(_WASTED, _REMAT * (1 + attention_percent / 100)):
        return None
    largest = next((f"{one.kind} of {one.shape}" for one in hlo.list_collectives(program)), "none")
    return (
        f"a device's matrix products take {multiplied / tflop:.2f} times the TFLOP of the family's"
        " formula, more than remat explains; where the batch does not stay split over the devices,"
        " hold activations to it (models.shared.partitioning.constrain); largest collective:"
        f" {largest}"
    )


def wasted_steps(case: Case, over: Mesh) -> list[str]:
    """`wasted` of each implementation's step, compiled for the mesh, with its name before it."""
    pair = families.load(case.twins)
    initial = pair.get(pair.names[0])
    found: dict[str, str | None] = {}  # by what was lowered
    lines = []
    for name in pair.names:
        trainer = train_step.make_trainer(case, pair.get(name), initial, over)
        model = describe_model(case, trainer)
        if model["tflop_per_step_per_device"] is None:
            return []
        lowered = train_step.trace_step(trainer).lower()
        text = lowered.as_text()
        if text not in found:
            program = hlo.parse(hlo.text(train_step.compile_step(lowered, trainer)))
            found[text] = _wasted(program, model)
        if found[text] is not None:
            lines.append(f"{name}: {found[text]}")
    return lines


def _wasted(program: hlo.Program, model: Mapping[str, Any]) -> str | None:
    tflop = model["tflop_per_step_per_device"]
    return None if tflop is None else wasted(program, tflop, model["attention_tflop_percent"])


def quantized_matmuls(program: hlo.Program) -> list[dict[str, Any]]:
    """What each of the layers' matmuls was compiled into, by name and pass.

    Entries such as {"matmul": "wi_0", "pass": "backward", "operation": "s8 x s8 -> s32",
    "count": 32}: the executions in one step. One that fell back to bfloat16 says so.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for matmul in hlo.matmuls(program):
        name = next((part for part in _names(matmul.op_name) if part in QUANTIZED), None)
        if name is not None:
            formats = f"{matmul.lhs.dtype} x {matmul.rhs.dtype} -> {matmul.result.dtype}"
            counts[name, _pass(matmul.op_name), formats] += matmul.times or 0
    return [
        {"matmul": name, "pass": which, "operation": formats, "count": count}
        for (name, which, formats), count in sorted(counts.items())
    ]


def _names(op_name: str) -> list[str]:
    return re.findall(r"\w+", op_name)


def _pass(op_name: str) -> str:
    if "rematted_computation" in op_name:
        return "recomputed"
    return "backward" if "transpose(" in op_name else "forward"
