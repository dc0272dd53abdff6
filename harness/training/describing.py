"""What a step trains and what it was compiled into, as the record tells it."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

import jax

from harness import hardware, hlo
from harness.cases import families
from harness.cases.settings import Case
from harness.hlo import parts
from harness.records.cautions import Caution
from harness.records.record import blank
from harness.records.recorder import Recorder
from harness.training import accounting, data, pipeline_figures, train_step
from harness.training.compiler_options import Options
from harness.training.parallel.mesh import Grid
from harness.training.train_step import Trainer
from models.seam import Family

# A program may well multiply more than a family's formula counts, which leaves out half of causal
# attention (up to its share again) and what remat computes again (at most all of the forward
# pass, one third of the formula, so 4/3). Beyond that and 1.5 times the formula, work is wasted.
# In its idle ticks a stage of a pipeline multiplies too, and throws away what it makes.
_REMAT = 4 / 3
_WASTED = 1.5
# Of every pair that is trained: a check and a bisection look for it.
UNTESTED = "what changes no number here, such as a mask's fill (harness run --check lists it)"


def describe_model(case: Case, trainer: Trainer, recorder: Recorder) -> None:
    """Notes what is trained, on what, and warns of what is not known of either."""
    params = trainer.state["params"]
    tflop, attention_percent = _tflop(case, trainer.grid)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    recorder.note(
        "model",
        parameters=accounting.parameter_count(params),
        parameters_per_device=accounting.parameters_per_device(params, shardings),
        tflop_per_step_per_device=tflop,
        attention_tflop_percent=attention_percent,
        attention=getattr(trainer.model, "attention", None),
    )
    if tflop is None:
        recorder.warn(Caution.NO_FLOPS)
    pipeline_figures.describe(case, trainer, recorder)
    family = families.of(case)
    found = None if family.matched is None else family.matched()
    if found is not None:
        for caution, lines in (
            (Caution.NOT_COMPARED, (*found.uncompared, UNTESTED)),
            (Caution.ALONE, found.alone),
            (Caution.DIFFERING, found.differing),
            (Caution.UNSURE, found.unsure),
            (Caution.STARTED, found.started),
        ):
            for what in lines:
                recorder.warn(caution, what=what)
    kind = trainer.grid.kind
    device = hardware.find(kind)
    recorder.note("memory", capacity_bytes=device and device.hbm_bytes)
    if trainer.grid.platform == "tpu" and family.compute_dtype(case.model) == "float16":
        recorder.warn(Caution.FLOAT16_ON_TPU)
    if device is None and kind != "cpu":  # a CPU has no peaks that would mean anything
        recorder.warn(Caution.UNKNOWN_DEVICE, kind=kind)


def matched(family: Family) -> list[str]:
    """What trying out a pair has shown beside its names, a line each; [] of all other families."""
    if family.matched is None:
        return []
    found = family.matched()
    return [
        *(f"not compared: {line}" for line in (*found.alone, *found.uncompared)),
        *(f"may differ: {line}" for line in found.unsure),
        *(f"differs: {line}" for line in (*found.differing, *found.started)),
    ]


def differs(family: Family) -> bool:
    """Whether trying out a pair has shown what keeps its sides from being the same."""
    found = None if family.matched is None else family.matched()
    return found is not None and bool(found.differing or found.started)


def _tflop(case: Case, grid: Grid) -> tuple[float | None, float | None]:
    """Of one device: those that share a part of the batch share its work."""
    count = families.of(case).tflop_per_step
    if count is None:
        return None, None
    batch = data.global_batch(case, grid.batch_parts) // grid.batch_parts
    tflop, attention_percent = count(case.model, case.data.sequence_length, batch)
    return tflop * grid.batch_parts / grid.devices, attention_percent


def describe(
    case: Case, stablehlo_sha256: str, program: hlo.Program, options: Options
) -> dict[str, Any]:
    """The keys of the record's `program`; of `quantized`, [] when nothing was to be quantised."""
    family = families.of(case)
    names = family.quantized if family.quantization(case.model) != "none" else ()
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
        "tflop_by_part": {
            part: flops / 1e12 for part, flops in parts.flops_by_part(program, family.parts).items()
        },
        "quantized": quantized_matmuls(program, names),
        "compiler_options": options,
    }


def note_cycles(case: Case, program: hlo.Program, recorder: Recorder) -> None:
    """Notes the compiler's estimates by part of the model, where it makes any: on a TPU."""
    by_part = parts.cycles_by_part(program, families.of(case).parts)
    if by_part:
        recorder.note("prediction", cycles_by_part=by_part)


def warn(program: hlo.Program, recorder: Recorder) -> None:
    """Warns of what a reader must know of a step's program, whose model is on record."""
    for what in hlo.warnings(program):
        recorder.warn(Caution.INEXACT, what=what)
    model, pipeline = recorder.record["model"], recorder.record.get("pipeline")
    tflop = model["tflop_per_step_per_device"]
    idle_percent = pipeline["bubble_percent"]["predicted"] if pipeline else 0.0
    found = tflop and wasted(program, tflop, model["attention_tflop_percent"], idle_percent)
    if found:
        recorder.warn(Caution.WASTED, **found)


def wasted(
    program: hlo.Program, tflop: float, attention_percent: float, idle_percent: float = 0.0
) -> dict[str, Any] | None:
    """How much more one device multiplies than the formula's `tflop` explains, if it does.

    Kernels whose products cannot be seen make a program look smaller and are never told of; nor
    is what may run less often than it counts. idle_percent: of its ticks, by a pipeline's schedule.
    """
    multiplied = sum(one.flops for one in hlo.matmuls(program) if one.exact) / 1e12
    explained = max(_WASTED, _REMAT * (1 + attention_percent / 100)) / (1 - idle_percent / 100)
    if multiplied <= tflop * explained:
        return None
    largest = next((f"{one.kind} of {one.shape}" for one in hlo.list_collectives(program)), "none")
    return {"ratio": multiplied / tflop, "collective": largest}


def wasted_steps(case: Case, grid: Grid) -> list[str]:
    """What each implementation's step wastes, compiled for the mesh, with its name before it."""
    found: dict[str, list[str]] = {}  # by what was lowered
    lines = []
    for name in families.of(case).names:
        recorder = Recorder(blank("check", "preflight"))
        trainer = train_step.make_trainer(case, name, grid)
        describe_model(case, trainer, recorder)
        if recorder.record["model"]["tflop_per_step_per_device"] is None:
            return []
        lowered = train_step.trace_step(trainer).lower()
        text = lowered.as_text()
        if text not in found:
            recorder.set(warnings=[])
            warn(hlo.parse(hlo.text(train_step.compile_step(lowered, trainer))), recorder)
            found[text] = recorder.record["warnings"]
        lines += [f"{name}: {line}" for line in found[text]]
    return lines


def quantized_matmuls(program: hlo.Program, names: Collection[str]) -> list[dict[str, Any]]:
    """What each matmul of these names was compiled into, by name and pass.

    Entries such as {"matmul": "wi_0", "pass": "backward", "operation": "s8 x s8 -> s32",
    "count": 32}: the executions in one step. One that fell back to bfloat16 says so.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for matmul in hlo.matmuls(program):
        name = next((part for part in _names(matmul.op_name) if part in names), None)
        if name is not None:
            counts[name, _pass(matmul.op_name), matmul.dtypes] += matmul.times
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
