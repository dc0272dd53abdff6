"""One run, phase by phase: shapes, compile, init, steps, saves; each noted as it happens.

Prints nothing: whoever watches gets a call at each phase and each step.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax

from harness import hlo
from harness.cases.settings import Case
from harness.records import history
from harness.records.cautions import Caution
from harness.records.recorder import Recorder
from harness.saving import digest, folders, waiting
from harness.saving.checkpointer import Checkpointer, preload
from harness.saving.restoring import Restored, What
from harness.terminal.errors import UserError
from harness.training import (
    accounting,
    beginning,
    data,
    describing,
    evaluating,
    pipeline_figures,
    train_step,
)
from harness.training.parallel.mesh import Grid
from harness.training.pauses import Pauses
from harness.training.stepping import Observer as StepObserver
from harness.training.stepping import Running, Steps
from harness.training.timing import Stopwatch
from harness.training.train_step import Init, NnxState, State, Trainer
from models.seam import OWN
from models.shared.trees import named_leaves


class Observer(StepObserver, Protocol):
    """Who watches a run."""

    def phase(self, name: str) -> None:
        """A part of the run begins that may take long."""
        ...

    def program(self, text: str) -> None:
        """The optimised program of the step, as text."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to run."""

    case: Case
    impl: str
    init: Init  # whose parameters the run starts from
    grid: Grid
    restore: str | None = None  # the checkpoint to start from
    restore_what: What | None = None  # see restoring.restore
    # The first step that the run ever trained, where it goes on from its own newest checkpoint.
    begun: int | None = None
    profile: range = range(0)  # the steps to profile, into profile_directory
    profile_directory: str | None = None
    nnx_state: NnxState = "dict"


@dataclass(frozen=True)
class Ready:
    """A compiled step and the state that it begins with, on the devices; steps take its memory."""

    running: Running
    lowered: jax.stages.Lowered
    state: State
    first_step: int


def train(
    plan: Plan,
    recorder: Recorder,
    observer: Observer,
    checkpointer: Checkpointer,
    stop_asked: Callable[[int], bool],
) -> None:
    """Runs the plan; the record holds what is known so far also when this raises.

    Raises UserError for what the devices or a checkpoint cannot do, RunFailed for a loss that is
    not finite, Preempted when `stop_asked` (of the step just begun) and the state is saved, and
    what JAX raises.
    """
    stopwatch = Stopwatch()

    @contextmanager
    def phase(name: str, told: str | None = None) -> Iterator[None]:
        observer.phase(told or name)
        with stopwatch.phase(f"{name}_seconds"):
            yield
        recorder.note("timing", stopwatch.seconds)

    checkpointer.open(resume=plan.begun is not None)
    held_out = (
        None if plan.case.eval.every is None else data.evaluation_arrays(plan.case, plan.grid)
    )
    ready = prepare(plan, recorder, checkpointer, phase)
    evaluation = None
    if held_out is not None:
        with phase("evaluation"):
            trainer = ready.running.trainer
            evaluation = evaluating.compiled(plan.case, plan.impl, trainer, ready.state, held_out)
    recorder.note("memory", in_use_after_init_bytes=_largest_in_use(plan.grid, peak=False))
    recorder.rewind(ready.first_step)
    pauses = Pauses()
    steps = Steps(
        plan.case,
        plan.profile,
        plan.profile_directory,
        recorder,
        observer,
        evaluation,
        pauses.came,
    )
    try:
        with pauses:
            if plan.begun is not None and evaluation is not None:
                last = ready.first_step - 1
                if _lacks_evaluation(last, plan.begun, plan.case, recorder):
                    steps.evaluate(last, ready.state)
            state = steps.run(
                ready.running, ready.state, ready.first_step, checkpointer, stop_asked
            )
        observer.phase("finish")
    finally:
        steps.summarise(plan.grid)
        recorder.note("memory", peak_in_use_bytes=_largest_in_use(plan.grid, peak=True))
        checkpointer.finish()  # also of a run that failed: what is being saved is good
    _note_state(state, recorder)
    text = hlo.text(ready.running.compiled)
    observer.program(text)
    program = hlo.parse(text)
    described = describing.describe(
        plan.case,
        hlo.stablehlo_sha256(ready.lowered),
        program,
        ready.running.trainer.compiler_options,
    )
    recorder.note("program", described)
    describing.note_cycles(plan.case, program, recorder)
    pipeline_figures.note_compiled(program, recorder)
    describing.warn(program, recorder)


def prepare(
    plan: Plan,
    recorder: Recorder,
    checkpointer: Checkpointer,
    phase: Callable[..., AbstractContextManager[None]],
) -> Ready:
    """Compiles the step and makes the state it begins with; `phase` is entered around each part.

    It is given under which name a part's time counts and, where that is another, how it is called.

    Raises UserError for what the devices or a checkpoint cannot do.
    """
    with phase("init", "prepare"):
        trainer = train_step.make_trainer(
            plan.case, plan.impl, plan.grid, plan.init, plan.nnx_state
        )
        describing.describe_model(plan.case, trainer, recorder)
        restored = _restored(plan, trainer, checkpointer, recorder)
        init: Future[jax.stages.Compiled] | None = None
        first_step = 0
        if restored is not None and restored.step is not None:
            first_step = restored.step + 1
        if restored is None or restored.step is None or restored.fresh:
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
        recorder.warn(Caution.CACHED)
    recorder.note("memory", accounting.compiled_memory(compiled))
    with phase("init"):
        inputs = train_step.make_inputs(plan.case, plan.grid)
        state = init.result()(inputs.seed) if init is not None else {}
        if restored is not None:
            state = _taken_over(state, restored.state)
        state = train_step.lay_out(trainer, compiled, state)
        digest.prepare(state)
        jax.block_until_ready((state, inputs))
    return Ready(Running(trainer, compiled, inputs), lowered, state, first_step)


def _taken_over(fresh: State, restored: State) -> State:
    """The restored state, with what it lacks of the model's own state fresh."""
    model_state = {**fresh.get("model_state", {}), **restored.get("model_state", {})}
    return fresh | restored | ({"model_state": model_state} if model_state else {})


def _note_state(state: State, recorder: Recorder) -> None:
    """Notes the state's size, and the digest of what the other implementation has too."""
    own = f"model_state/{OWN}/"
    leaves = named_leaves(state)
    digests = {name: one for name, one in digest.array_digests(state).items()
               if not name.startswith(own)}  # fmt: skip
    recorder.note(
        "checkpoint",
        arrays=len(digests),
        bytes=sum(leaves[name].nbytes for name in digests),
        digest=digest.combined(digests),
        digests=digests,
        own={
            name.removeprefix(own): leaves[name].nbytes for name in sorted(leaves.keys() - digests)
        },
    )


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


def _restored(
    plan: Plan, trainer: Trainer, checkpointer: Checkpointer, recorder: Recorder
) -> Restored | None:
    """The state to begin with, None for a fresh one; its "params" alone where no more is taken."""
    restored = None
    if plan.begun is not None:
        restored = checkpointer.resume(trainer.state)
        if restored is not None:
            _require_recorded(restored, plan.begun, recorder)
            _account_for(restored, checkpointer, recorder)
    if restored is None and plan.restore is not None:
        restored = checkpointer.restore(plan.restore, trainer.state, plan.restore_what)
        if plan.restore.endswith(folders.ARCHIVE):
            params = beginning.as_fresh(plan.case, trainer.model, restored.state["params"])
            restored = replace(restored, state={"params": params})
    if restored is not None:
        recorder.note("checkpoint", restored_from=restored.path)
        for warning in restored.warnings:
            recorder.warn(Caution.RESTORED, what=warning)
    return restored


def _require_recorded(restored: Restored, begun: int, recorder: Recorder) -> None:
    """Raises UserError unless all steps up to a checkpoint of the run's own are known."""
    record, step = recorder.record, restored.step or 0
    lost = history.lacking(record["steps"], range(begun, step + 1))
    if lost is not None:
        raise UserError(
            f"{record['run_id']}: neither record.json nor {history.METRICS} has {lost} of those"
            f" up to checkpoint {step}: it cannot go on as a whole; --run-id OTHER --restore"
            f" {restored.path} --restore-what all goes on from there as a run of its own"
        )


def _account_for(restored: Restored, checkpointer: Checkpointer, recorder: Recorder) -> None:
    """Keeps, and warns of, a save whose start was killed between its commit and its account."""
    step = restored.step or 0
    if step not in [save["step"] for save in recorder.record["checkpoint"]["saves"]]:
        recorder.warn(Caution.UNCOUNTED_SAVE, step=step)
        checkpointer.committed({"step": step})


def _lacks_evaluation(last: int, begun: int, case: Case, recorder: Recorder) -> bool:
    """Whether the state after the last step is yet to be evaluated; warns of what is lost."""
    told = recorder.record.get("evals", ())
    due = [step for step in range(begun, last + 1) if evaluating.due(case, step)]
    lost = history.lacking(told, (step for step in due if step != last))
    if lost is not None:
        recorder.warn(Caution.LOST_EVALUATIONS, which=lost)
    return last in due and history.lacking(told, [last]) is not None


def _largest_in_use(grid: Grid, peak: bool) -> int | None:
    """Bytes in use on the fullest device of this process, None where the backend does not say."""
    uses = [accounting.memory_in_use(device) for device in grid.mesh.local_devices]
    known = [use.peak_bytes_in_use if peak else use.bytes_in_use for use in uses if use]
    return max(known, default=None)
