"""One run, phase by phase: shapes, compile, init, steps, saves; fills the record as it goes.

Prints nothing: whoever watches gets a call at each phase and each step.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import jax
from jax.sharding import Mesh

from harness import hlo
from harness.cases.settings import Case
from harness.records.record import Record
from harness.saving import digest, waiting
from harness.saving.checkpointer import Checkpointer, preload
from harness.saving.restoring import Restored
from harness.training import accounting, data, describing, train_step
from harness.training.timing import StepClock, Stopwatch, summarise
from harness.training.train_step import Metrics, NnxState, State, Trainer
from models import Implementation

_WARM_UP_STEPS = 3


class RunFailed(Exception):
    """The training itself went wrong; the message names the step."""


class Preempted(Exception):
    """The run was asked to stop, and its state is saved."""


class Observer(Protocol):
    """Who watches a run."""

    def phase(self, name: str) -> None:
        """A part of the run begins that may take long."""
        ...

    def begin(self, first_step: int) -> None:
        """The steps begin, with this one."""
        ...

    def step(self, entry: dict[str, Any]) -> None:
        """A step has finished; `entry` is its line in the record."""
        ...

    def program(self, text: str) -> None:
        """The optimised program of the step, as text."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to run."""

    case: Case
    implementation: Implementation
    initial: Implementation  # whose parameters the run starts from
    mesh: Mesh
    restore: str | None = None  # the checkpoint to start from
    resume: bool = False  # go on from the newest checkpoint of the run's own
    profile: range = range(0)  # the steps to profile, into profile_directory
    profile_directory: str | None = None
    nnx_state: NnxState = "dict"


def train(
    plan: Plan,
    record: Record,
    observer: Observer,
    checkpointer: Checkpointer,
    stop_asked: Callable[[int], bool],
) -> None:
    """Runs the plan and fills `record`, which holds what is known so far also when this raises.

    Raises UserError for what the devices or a checkpoint cannot do, RunFailed for a loss that is
    not finite, Preempted when `stop_asked` (of the step just begun) and the state is saved, and
    what JAX raises.
    """
    stopwatch = Stopwatch()

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        observer.phase(name)
        with stopwatch.phase(f"{name}_seconds"):
            yield
        record["timing"] |= stopwatch.seconds

    checkpointer.open(resume=plan.resume)
    with phase("init"):
        trainer = train_step.make_trainer(
            plan.case, plan.implementation, plan.initial, plan.mesh, plan.nnx_state
        )
        _describe_model(plan, trainer, record)
        restored = _restored(plan, trainer, checkpointer, record)
        init: Future[jax.stages.Compiled] | None = None
        first_step = 0
        if restored is not None and restored.step is not None:
            first_step = restored.step + 1
        else:
            lowered_init = train_step.lower_init(trainer)
            # In a thread of its own, while the step is traced and compiled.
            init = waiting.start(lambda: train_step.compile_step(lowered_init, trainer))
    with phase("trace"):
        traced = train_step.trace_step(trainer)
    with phase("lower"):
        lowered = traced.lower()
    with phase("compile"), _cache_hits() as hits:
        if checkpointer.enabled:
            preload()  # the compiler leaves Python alone meanwhile
        compiled = train_step.compile_step(lowered, trainer)
    if hits:
        record["warnings"].append(
            "compiled programs came from the compilation cache: compile_seconds is their loading"
        )
    record["memory"] |= accounting.compiled_memory(compiled)
    with phase("init"):
        batch = data.make_batch(plan.case, plan.mesh)
        state = init.result()() if init is not None else {}
        if restored is not None:
            state |= restored.state
        state = train_step.lay_out(trainer, compiled, state)
        digest.prepare(state)
        jax.block_until_ready((state, batch))
    record["memory"]["in_use_after_init_bytes"] = _largest_in_use(plan.mesh, peak=False)
    observer.begin(first_step)
    steps = _Steps(plan, record, observer)
    try:
        state = steps.run(trainer, compiled, state, batch, first_step, checkpointer, stop_asked)
        observer.phase("finish")
    finally:
        steps.summarise()
        record["memory"]["peak_in_use_bytes"] = _largest_in_use(plan.mesh, peak=True)
        try:
            checkpointer.finish()  # also of a run that failed: what is being saved is good
        finally:
            record["checkpoint"]["saves"].extend(
                asdict(save) | {"bytes_per_second": save.bytes_per_second}
                for save in checkpointer.saves
            )
    digests = digest.array_digests(state)
    record["checkpoint"] |= {
        "arrays": len(digests),
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "digest": digest.combined(digests),
    }
    text = hlo.text(compiled)
    observer.program(text)
    program = hlo.parse(text)
    record["program"] |= describing.describe(
        hlo.stablehlo_sha256(lowered), program, trainer.compiler_options, plan.case.quantization
    )
    record["warnings"].extend(describing.warnings(program, record["model"]))


@contextmanager
def _cache_hits() -> Iterator[list[str]]:
    """The programs that JAX finds in its compilation cache meanwhile; a list that fills up."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)


def _describe_model(plan: Plan, trainer: Trainer, record: Record) -> None:
    record["model"] |= describing.describe_model(plan.case, trainer)
    record["warnings"].extend(describing.unknown_of_model(record["model"]))
    kind = plan.mesh.devices.flat[0].device_kind
    limits = accounting.device_limits(kind)
    record["memory"]["capacity_bytes"] = limits and limits.hbm_bytes
    warning = accounting.unknown_device_warning(kind)
    if warning:
        record["warnings"].append(warning)


def _restored(
    plan: Plan, trainer: Trainer, checkpointer: Checkpointer, record: Record
) -> Restored | None:
    """The state to begin with, None for a fresh one; its "params" alone from another program."""
    restored = checkpointer.resume(trainer.state) if plan.resume else None
    if restored is None and plan.restore is not None:
        restored = checkpointer.restore(plan.restore, trainer.state)
    if restored is not None:
        record["checkpoint"]["restored_from"] = restored.path
        record["warnings"].extend(restored.warnings)
    return restored


class _Steps:
    """The timed part of a run, and what it measures."""

    def __init__(self, plan: Plan, record: Record, observer: Observer) -> None:
        self._plan = plan
        self._record = record
        self._observer = observer
        self._clock = StepClock()
        self._dispatch_seconds: list[float] = []

    def run(
        self,
        trainer: Trainer,
        compiled: jax.stages.Compiled,
        state: State,
        batch: data.Batch,
        first: int,
        checkpointer: Checkpointer,
        stop_asked: Callable[[int], bool],
    ) -> State:
        """Steps `first` to the last; step n + 1 is dispatched before step n is waited for."""
        last = self._plan.case.run.steps - 1
        profile = self._plan.profile
        pending: tuple[int, Metrics] | None = None
        # Plain trees, unless it is asked what NNX's own objects cost.
        carrier = trainer.carrier
        call = carrier.call(compiled) if carrier else compiled
        carried = carrier.enter(state) if carrier else state

        def plain() -> State:
            return carrier.leave(carried) if carrier else carried

        def drain() -> None:
            nonlocal pending
            if pending is not None:
                self._finish(*pending)
                pending = None

        self._clock.start()
        for step in range(first, last + 1):
            if step == first + _WARM_UP_STEPS:
                # What lives now lives to the end: the collector need not walk it between steps.
                gc.collect()
                gc.freeze()
            if profile and step == profile.start:
                drain()
                jax.profiler.start_trace(str(self._plan.profile_directory))
                self._clock.start()
            with jax.transfer_guard("disallow"):
                before = time.perf_counter()
                carried, metrics = call(carried, batch)
                self._dispatch_seconds.append(time.perf_counter() - before)
                drain()
            pending = (step, metrics)
            if profile and step == profile.stop - 1:
                drain()
                jax.profiler.stop_trace()
                self._clock.start()
            checkpointer.check()
            stopping = stop_asked(step)
            if stopping and not checkpointer.enabled:
                drain()
                raise RunFailed(f"asked to stop after step {step}; checkpoints are off: none saved")
            if stopping or checkpointer.due(step, last):
                # The next step would take the state's memory: it waits until the state is copied.
                drain()
                checkpointer.save(step, plain())
                self._clock.start(after_save=True)
            if stopping and step < last:
                checkpointer.finish()
                raise Preempted(f"asked to stop: saved step {step}")
        drain()
        gc.unfreeze()
        return plain()

    def _finish(self, step: int, metrics: Metrics) -> None:
        """Waits for a step and writes its line; raises RunFailed for a loss that is not finite."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        time = self._clock.finished()
        nonfinite = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
        entry = {
            "step": step,
            "loss": values["loss"],
            "grad_norm": values["grad_norm"],
            "learning_rate": values["learning_rate"],
            "step_seconds": time.seconds,
            "total_weights": values["total_weights"],
            "after_save": time.after_save,
            **dict.fromkeys(nonfinite),
        }
        self._record["steps"].append(entry)
        self._observer.step(entry)
        if nonfinite:
            self._record["nonfinite_steps"] += 1
            if not self._plan.case.run.allow_nonfinite:
                name = nonfinite[0]
                raise RunFailed(f"step {step}: {name} is {values[name]}")

    def summarise(self) -> None:
        """What the steps so far say of speed."""
        record, plan = self._record, self._plan
        timing, model = record["timing"], record["model"]
        timing["first_step_seconds"] = self._clock.first_step_seconds
        timing["step_seconds"] = summarise(self._clock.samples)
        timing["host_dispatch_seconds"] = summarise(self._dispatch_seconds[1:])["median"]
        if plan.profile:
            record["warnings"].append(
                f"steps {plan.profile.start} to {plan.profile.stop - 1} ran under the profiler:"
                " their times include it"
            )
        seconds = timing["step_seconds"]["median"]
        if seconds is None:
            record["warnings"].append(
                "no step was timed: the first three and those after a save do not count;"
                f" run more than {_WARM_UP_STEPS + 1} steps"
            )
            return
        tokens = data.global_batch(plan.case, plan.mesh.size) * plan.case.data.sequence_length
        kind = plan.mesh.devices.flat[0].device_kind
        timing["tokens_per_second_per_device"] = tokens / plan.mesh.size / seconds
        if model["tflop_per_step_per_device"] is None:
            return
        tflops = model["tflop_per_step_per_device"] / seconds
        timing["tflops_per_device"] = tflops
        timing["mfu_percent"] = accounting.mfu_percent(tflops, kind)
        warning = accounting.above_peak_warning(tflops, kind, plan.case.quantization)
        if warning:
            record["warnings"].append(warning)


def _largest_in_use(mesh: Mesh, peak: bool) -> int | None:
    """Bytes in use on the fullest device of this process, None where the backend does not say."""
    uses = [accounting.memory_in_use(device) for device in mesh.local_devices]
    known = [use.peak_bytes_in_use if peak else use.bytes_in_use for use in uses if use]
    return max(known, default=None)
