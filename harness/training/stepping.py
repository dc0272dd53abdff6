"""The timed part of a run: one step after the other, and what they say of its speed."""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from harness import hardware
from harness.cases import families
from harness.cases.settings import Case
from harness.records.cautions import Caution
from harness.records.figures import WARM_UP_STEPS, summarise
from harness.records.recorder import Recorder
from harness.saving.checkpointer import Checkpointer
from harness.training import data, evaluating
from harness.training.evaluating import Evaluation
from harness.training.parallel.mesh import Grid
from harness.training.timing import StepClock
from harness.training.train_step import Inputs, Metrics, State, Trainer


class RunFailed(Exception):
    """The training itself went wrong; the message names the step."""


class Preempted(Exception):
    """The run was asked to stop, and its state is saved."""


class Observer(Protocol):
    """Who watches the steps."""

    def step(self, entry: dict[str, Any]) -> None:
        """A step has finished; `entry` is its line in the record."""
        ...

    def evaluation(self, entry: dict[str, Any]) -> None:
        """The state after a step is evaluated; `entry` is its line in the record."""
        ...


@dataclass(frozen=True)
class Running:
    """A compiled step, and what it is given each time."""

    trainer: Trainer
    compiled: jax.stages.Compiled
    inputs: Inputs


class Walk:
    """A state that goes from step to step; each is dispatched, none is waited for."""

    def __init__(self, running: Running, state: State) -> None:
        # Plain trees, unless it is asked what NNX's own objects cost.
        self._carrier = carrier = running.trainer.carrier
        self._call = carrier.call(running.compiled) if carrier else running.compiled
        self._carried = carrier.enter(state) if carrier else state
        self._inputs = running.inputs
        self.dispatch_seconds: list[float] = []

    def step(self) -> Metrics:
        """Dispatches the next step; its metrics are there when the device has finished it."""
        with jax.transfer_guard("disallow"):
            before = time.perf_counter()
            self._carried, metrics = self._call(self._carried, self._inputs)
            self.dispatch_seconds.append(time.perf_counter() - before)
        return metrics

    @property
    def state(self) -> State:
        """The state after the last step, as plain trees."""
        return self._carrier.leave(self._carried) if self._carrier else self._carried


def fetched(metrics: Metrics) -> dict[str, float]:
    """A step's metrics as numbers of the host, once the device has finished it."""
    return {name: value.item() for name, value in jax.device_get(metrics).items()}


class Steps:
    """Runs steps, and measures them."""

    def __init__(
        self,
        case: Case,
        profile: range,
        profile_directory: str | None,
        recorder: Recorder,
        observer: Observer,
        evaluation: Evaluation | None = None,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Paused: see `StepClock`."""
        self._case = case
        self._evaluation = evaluation
        self._profile = profile
        self._profile_directory = profile_directory
        self._recorder = recorder
        self._observer = observer
        self._clock = StepClock(paused=paused)
        self._walk: Walk | None = None
        self._ended = False

    def run(
        self,
        running: Running,
        state: State,
        first: int,
        checkpointer: Checkpointer,
        stop_asked: Callable[[int], bool],
    ) -> State:
        """Steps `first` to the last; step n + 1 is dispatched before step n is waited for."""
        last = self._case.run.steps - 1
        profile = self._profile
        pending: tuple[int, Metrics] | None = None
        self._walk = walk = Walk(running, state)

        def drain() -> None:
            nonlocal pending
            if pending is not None:
                self._finish(*pending)
                pending = None

        self._clock.start()
        for step in range(first, last + 1):
            if step == first + WARM_UP_STEPS:
                # What lives now lives to the end: the collector need not walk it between steps.
                gc.collect()
                gc.freeze()
            if profile and step == profile.start:
                drain()
                jax.profiler.start_trace(str(self._profile_directory))
                self._clock.start()
            metrics = walk.step()
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
            saving = stopping or checkpointer.due(step, last)
            # Who is to stop has little time: a run that goes on makes up for the evaluation.
            evaluated = self._evaluates(step) and not (stopping and step < last)
            if saving or evaluated:
                # The next step would take the state's memory: it waits until the state is copied.
                drain()
                if evaluated:  # before it is saved: what is saved need not be evaluated again
                    self.evaluate(step, walk.state)
                if saving:
                    checkpointer.save(step, walk.state)
                self._clock.start(after_save=saving, after_eval=evaluated)
            if stopping and step < last:
                checkpointer.finish()
                raise Preempted(f"asked to stop: saved step {step}")
        drain()
        gc.unfreeze()
        self._ended = True
        return walk.state

    def evaluate(self, step: int, state: State) -> None:
        """Evaluates the state after `step` and writes its line."""
        assert self._evaluation is not None
        metrics, seconds = self._evaluation(state)
        self._observer.evaluation(self._recorder.evaluation(step, metrics, seconds))

    def _evaluates(self, step: int) -> bool:
        return self._evaluation is not None and evaluating.due(self._case, step)

    def _finish(self, step: int, metrics: Metrics) -> None:
        """Waits for a step and writes its line; raises RunFailed for a loss that is not finite.

        A step that the optimizer dropped or skipped changed nothing, and may be as it is; the loss
        of a skipped one is what it would be without a scale.
        """
        values = fetched(metrics)
        time = self._clock.finished()
        told = {"after_eval": time.after_eval, "stopped": time.stopped}
        entry = self._recorder.step(
            step,
            values,
            step_seconds=time.seconds,
            after_save=time.after_save,
            **{name: True for name, holds in told.items() if holds},
        )
        self._observer.step(entry)
        may_be_nonfinite = self._case.run.allow_nonfinite or values.get("dropped", False)
        for name in ("loss",) if values.get("skipped", False) else ("loss", "grad_norm"):
            if not math.isfinite(values[name]) and not may_be_nonfinite:
                raise RunFailed(f"step {step}: {name} is {values[name]}")

    def summarise(self, grid: Grid) -> None:
        """What the steps so far say of speed."""
        recorder, profile = self._recorder, self._profile
        seconds = summarise(self._clock.samples)
        dispatches = self._walk.dispatch_seconds if self._walk else []
        recorder.note(
            "timing",
            first_step_seconds=self._clock.first_step_seconds,
            step_seconds=seconds,
            host_dispatch_seconds=summarise(dispatches[1:])["median"],
        )
        for metric, caution in (
            ("dropped", Caution.DROPPED),
            ("skipped", Caution.SKIPPED),
            ("stopped", Caution.STOPPED),
        ):
            found = [entry["step"] for entry in recorder.record["steps"] if entry.get(metric)]
            if found:
                recorder.warn(caution, count=len(found), first=found[0])
        if profile:
            recorder.warn(Caution.PROFILED, first=profile.start, last=profile.stop - 1)
        median = seconds["median"]
        if median is None:
            if self._ended:  # a run that failed or was stopped says why by itself
                recorder.warn(Caution.UNTIMED, enough=WARM_UP_STEPS + 1)
            return
        examples = data.global_batch(self._case, grid.batch_parts)
        rate = examples / grid.devices / median
        if families.of(self._case).unit == "token":
            length = self._case.data.sequence_length
            recorder.note("timing", tokens_per_second_per_device=rate * length)
        else:
            recorder.note("timing", examples_per_second_per_device=rate)
        tflop = recorder.record["model"]["tflop_per_step_per_device"]
        if tflop is not None:
            self._rate(tflop / median, grid.kind)

    def _rate(self, tflops: float, kind: str) -> None:
        mfu = hardware.mfu_percent(tflops, kind)
        self._recorder.note("timing", tflops_per_device=tflops, mfu_percent=mfu)
        quantization = families.of(self._case).quantization(self._case.model)
        peak = hardware.peak_tflops(kind, quantization)
        if peak is not None and tflops > peak:
            self._recorder.warn(Caution.ABOVE_PEAK, rate=tflops, kind=kind, peak=peak)
