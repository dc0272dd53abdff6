"""What a case will need and do on a TPU slice: its step compiled, read and put on record."""

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from harness import hlo
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.hlo import Program, parts
from harness.records import environment
from harness.records import record as record_module
from harness.records.cautions import Caution
from harness.records.record import Record
from harness.records.recorder import Recorder
from harness.slices import compilation, prediction
from harness.slices.compilation import CompiledStep
from harness.slices.topology import Slice
from harness.training import accounting, data, describing, pipeline_figures, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
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

    state_bytes: parameters, both moments and the counts, of one device. sequences: of a step, on
    all devices.
    """

    question: Question
    record: Record
    program: Program | None
    state_bytes: int
    sequences: int

    @property
    def parts(self) -> parts.Parts | None:
        """What the family calls the parts of its programs, None where it does not say."""
        return families.of(self.question.case).parts

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
    recorder = Recorder(_blank(question, devices))
    stopwatch = Stopwatch()
    phase("trace")
    with stopwatch.phase("trace_seconds"):
        trainer = train_step.make_trainer(case, question.impl, mesh.make(case, devices))
        traced = train_step.trace_step(trainer)
    phase("lower")
    with stopwatch.phase("lower_seconds"):
        lowered = traced.lower()
    stablehlo = hlo.stablehlo_sha256(lowered)
    recorder.note("timing", stopwatch.seconds)
    describing.describe_model(case, trainer, recorder)
    recorder.note("environment", mesh=dict(trainer.grid.mesh.shape))
    recorder.note("program", stablehlo_sha256=stablehlo)
    answer = functools.partial(
        Forecast,
        question,
        recorder.record,
        state_bytes=_bytes_per_device(trainer.state),
        sequences=data.global_batch(case, trainer.grid.batch_parts),
    )
    if twin is not None and twin.stablehlo_sha256 == stablehlo:
        recorder.set(**{name: copy.deepcopy(twin.record[name]) for name in _OF_THE_PROGRAM})
        recorder.note("timing", compile_seconds=twin.record["timing"]["compile_seconds"])
        recorder.warn(Caution.SAME_TEXT, twin=twin.question.impl)
        if twin.program is not None:
            _tell(recorder, twin.program, trainer.grid)
        return answer(twin.program)
    try:
        compiled = compilation.find(stablehlo, trainer.compiler_options, on)
        if compiled is not None:
            recorder.warn(Caution.KEPT)
        else:
            phase("compile")
            compiled = compilation.compile_step(lowered, trainer, stablehlo, on)
    except compilation.DoesNotFit as error:
        recorder.set(error=f"does not fit: {error}")
        return answer(None)
    phase("read the program")
    return answer(_read(recorder, compiled, trainer, case))


def _read(recorder: Recorder, compiled: CompiledStep, trainer: Trainer, case: Case) -> Program:
    """Puts what the compiled step is on record."""
    recorder.note("timing", compile_seconds=compiled.compile_seconds)
    recorder.note("memory", accounting.compiled_memory(compiled))
    parsed = hlo.parse(compiled.text)
    stablehlo = recorder.record["program"]["stablehlo_sha256"]
    recorder.note("program", describing.describe(case, stablehlo, parsed, trainer.compiler_options))
    if trainer.grid.slices == 1:
        recorder.note("prediction", prediction.predict(parsed, trainer.grid.kind))
    describing.note_cycles(case, parsed, recorder)
    _tell(recorder, parsed, trainer.grid)
    return parsed


def _tell(recorder: Recorder, program: Program, grid: Grid) -> None:
    """What a reader must know of the program and of what is predicted of it."""
    pipeline_figures.note_compiled(program, recorder)
    describing.warn(program, recorder)
    if grid.slices > 1:
        recorder.warn(Caution.ACROSS_SLICES)
    elif recorder.record["prediction"]["step_seconds"] is None:
        recorder.warn(Caution.NO_CONSTANTS, kind=grid.kind)


def _blank(question: Question, devices: list[jax.Device]) -> Record:
    case = question.case
    record = record_module.blank(
        record_module.new_run_id(case.shown, question.impl),
        "preflight",
        impl=question.impl,
        size=question.size,
        recipe=question.recipe,
        init="shared",
    )
    record["case"] = reading.described(case, question.size, question.recipe)
    # Where it was compiled says nothing about the slice.
    record["environment"] = environment.collect(devices) | {"hostname": None}
    return record


def _bytes_per_device(state: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )
