"""What a case will need and do on a TPU slice: its step compiled, read and put on record."""

import copy
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from harness import hlo
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.hlo import Program, parts
from harness.hlo.parts import Parts
from harness.records import environment
from harness.records import record as record_module
from harness.records.record import Record
from harness.slices import compilation, prediction
from harness.slices.compilation import CompiledStep
from harness.slices.topology import Slice
from harness.training import accounting, describing, train_step
from harness.training.parallel import mesh
from harness.training.timing import Stopwatch
from harness.training.train_step import Trainer

_OF_THE_PROGRAM = ("memory", "program", "prediction", "error")


@dataclass(frozen=True)
class Question:
    """One step of one implementation of a case, on one slice."""

    case: Case
    size: str
    recipe: str
    impl: str
    on: Slice


@dataclass(frozen=True)
class Forecast:
    """The answer; `program` is None when the step does not fit into the device's memory.

    state_bytes: parameters, both moments and the counts, of one device. parts: what the family
    calls the parts of its programs, None where it does not say.
    """

    question: Question
    record: Record
    program: Program | None
    state_bytes: int
    parts: Parts | None

    @property
    def stablehlo_sha256(self) -> str:
        """Which lowered program it is about."""
        return str(self.record["program"]["stablehlo_sha256"])

    @property
    def needed_bytes(self) -> int:
        """What the compiled step takes of the device's memory, its code included."""
        memory = self.record["memory"]
        return int(memory["total_bytes"] + memory["generated_code_bytes"])

    @property
    def fits(self) -> bool:
        """Whether the device's memory holds the step."""
        return self.program is not None and (
            self.needed_bytes <= self.record["memory"]["capacity_bytes"]
        )


def make(question: Question, phase: Callable[[str], None], twin: Forecast | None) -> Forecast:
    """Compiles the step that harness.run runs, or takes what was compiled before.

    `phase` is told what is under way; `twin` is the other implementation's forecast, if there is
    one, for the record to say when both are one program. Raises UserError.
    """
    case, on = question.case, question.on
    devices = on.devices()
    record = _blank(question, devices)
    stopwatch = Stopwatch()
    phase("trace")
    with stopwatch.phase("trace_seconds"):
        over = mesh.make(devices)
        pair = families.load(case.twins)
        named: Parts | None = getattr(importlib.import_module(pair.module), "PARTS", None)
        initial = pair.get(pair.names[0])
        trainer = train_step.make_trainer(case, pair.get(question.impl), initial, over)
        traced = train_step.trace_step(trainer)
    phase("lower")
    with stopwatch.phase("lower_seconds"):
        lowered = traced.lower()
    stablehlo = hlo.stablehlo_sha256(lowered)
    record["timing"] |= stopwatch.seconds
    record["model"] |= describing.describe_model(case, trainer)
    record["warnings"].extend(describing.unknown_of_model(record["model"]))
    record["program"]["stablehlo_sha256"] = stablehlo
    limits = accounting.device_limits(devices[0].device_kind)
    record["memory"]["capacity_bytes"] = limits and limits.hbm_bytes
    state_bytes = _bytes_per_device(trainer.state)
    if twin is not None and twin.stablehlo_sha256 == stablehlo:
        record |= {name: copy.deepcopy(twin.record[name]) for name in _OF_THE_PROGRAM}
        record["timing"]["compile_seconds"] = twin.record["timing"]["compile_seconds"]
        record["warnings"].append(
            f"not compiled again: lowered to the very text of {twin.question.impl}"
        )
        if twin.program is not None:
            record["warnings"] += _warnings(record, twin.program)
        return Forecast(question, record, twin.program, state_bytes, named)
    compiled = compilation.find(stablehlo, trainer.compiler_options, on)
    if compiled is not None:
        record["warnings"].append("not compiled again: taken from the cache, with its compile time")
    try:
        if compiled is None:
            phase("compile")
            compiled = compilation.compile_step(lowered, trainer, stablehlo, on)
    except compilation.DoesNotFit as error:
        record["error"] = f"does not fit: {error}"
        return Forecast(question, record, None, state_bytes, named)
    phase("read the program")
    parsed = _read(record, compiled, trainer, case.quantization)
    record["prediction"]["cycles_by_part"] = parts.cycles_by_part(parsed, named)
    record["warnings"] += _warnings(record, parsed)
    return Forecast(question, record, parsed, state_bytes, named)


def _read(record: Record, compiled: CompiledStep, trainer: Trainer, quantization: str) -> Program:
    """Puts what the compiled step is on record."""
    record["timing"]["compile_seconds"] = compiled.compile_seconds
    record["memory"] |= accounting.compiled_memory(compiled)
    parsed = hlo.parse(compiled.text)
    stablehlo = record["program"]["stablehlo_sha256"]
    record["program"] |= describing.describe(
        stablehlo, parsed, trainer.compiler_options, quantization
    )
    kind = trainer.mesh.devices.flat[0].device_kind
    record["prediction"] |= prediction.predict(parsed, kind)
    return parsed


def _warnings(record: Record, program: Program) -> list[str]:
    """What a reader must know of the program and of what is predicted of it."""
    found = describing.warnings(program, record["model"])
    if record["prediction"]["step_seconds"] is None:
        kind = record["environment"]["device_kind"]
        found.append(f"no step time: the constants of a {kind} are not published")
    return found


def _blank(question: Question, devices: list[jax.Device]) -> Record:
    case = question.case
    record = record_module.blank(
        record_module.new_run_id(case.name, question.impl),
        "preflight",
        impl=question.impl,
        size=question.size,
        recipe=question.recipe,
        init="shared",
    )
    record["case"] = {
        "name": case.name,
        "hash": reading.case_hash(case, question.size, question.recipe),
        "config": reading.flatten(case),
    }
    # Where it was compiled says nothing about the slice.
    record["environment"] = environment.collect(devices) | {"hostname": None}
    return record


def _bytes_per_device(state: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )
