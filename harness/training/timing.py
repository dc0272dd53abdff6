"""Clocks that tell what the device did, apart from what the host did around it."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.records.figures import WARM_UP_STEPS

Clock = Callable[[], float]


def process_age_seconds() -> float | None:
    """Returns the seconds since the operating system started this process, None where unknown.

    Linux only; exact to one tick of its clock, 10 ms. It tells what no clock of our own can: how
    long the interpreter and the imports before this one took.
    """
    try:
        status = Path("/proc/self/stat").read_text()
        # The second field, the program's name in parentheses, may itself hold spaces; the fields
        # after it begin with the third, and the start is the 22nd (man 5 proc).
        start_ticks = int(status.rpartition(")")[2].split()[22 - 3])
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return since_boot - start_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return None


class Stopwatch:
    """Seconds by phase: `with stopwatch.phase("compile_seconds"): ...`, also of one that raises."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> dict[str, float]:
        """Each phase entered so far; one entered again has the sum."""
        return dict(self._seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block it is around."""
        start = self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - start


@dataclass(frozen=True)
class StepTime:
    """One step's time and whether it is a sample of `step_seconds` in the record."""

    seconds: float
    after_save: bool
    after_eval: bool
    stopped: bool  # the process did not run for a while, in this step or the one before
    is_sample: bool


class StepClock:
    """Times steps from the device finishing one to the device finishing the next.

    The loop keeps the device fed: it dispatches step n + 1, waits for step n, then calls
    `finished`. A save or an evaluation drains the device, so another `start` follows.

        clock.start()
        dispatch(0)
        for step in range(steps):
            dispatch(step + 1)
            wait_for(step)
            clock.finished()

    The first WARM_UP_STEPS and the first one after each `start` are no samples: the device was not
    yet at its pace, or the host's dispatch is part of the interval. No sample either is a step in
    which the process did not run, as `paused` says when it is asked, and the one after it, which
    the device did meanwhile.
    """

    def __init__(
        self, clock: Clock = time.perf_counter, paused: Callable[[], bool] = lambda: False
    ) -> None:
        self._clock = clock
        self._paused = paused
        self._was_paused = False
        self._last: float | None = None
        self._from_idle = False
        self._after_save = self._after_eval = False
        self._times: list[StepTime] = []

    def start(self, *, after_save: bool = False, after_eval: bool = False) -> None:
        """Begins anew from an idle device; call right before the next dispatch."""
        self._last = self._clock()
        self._from_idle = True
        self._after_save, self._after_eval = after_save, after_eval
        self._paused()  # what came before is in no step
        self._was_paused = False

    def finished(self) -> StepTime:
        """Ends a step; call as soon as the wait for it has returned."""
        if self._last is None:
            raise RuntimeError("StepClock.finished() before start()")
        now = self._clock()
        paused = self._paused()
        stopped = paused or self._was_paused
        warm = len(self._times) >= WARM_UP_STEPS
        is_sample = warm and not self._from_idle and not stopped
        step = StepTime(now - self._last, self._after_save, self._after_eval, stopped, is_sample)
        self._times.append(step)
        self._was_paused = paused
        self._last, self._from_idle = now, False
        self._after_save = self._after_eval = False
        return step

    @property
    def first_step_seconds(self) -> float | None:
        """The first step of this process, None before it is finished."""
        return self._times[0].seconds if self._times else None

    @property
    def samples(self) -> list[float]:
        """The seconds of the steps that are samples."""
        return [step.seconds for step in self._times if step.is_sample]
