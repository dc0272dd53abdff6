"""Tells when this process did not run: stopped, held by a debugger, or asleep with its machine."""

import contextlib
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

_TICK_SECONDS = 0.1
# Without a word of the operating system's, what is shorter may be a busy machine.
_PAUSE_SECONDS = 0.5
_SLEEP_SECONDS = 0.01
_IDLE = 0.05  # the most of a pause that the process may have computed


class Pauses:
    """Compares clocks that run while the process does not with such that do not.

    A process that goes on after SIGSTOP is told so by SIGCONT. Else a thread looks at the clock ten
    times a second: where it did not for longer, and the process has not computed meanwhile, that
    was a pause. The machine was asleep where the clock that counts this gains on the one that does
    not.
    """

    def __init__(self) -> None:
        self._came = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen = self._asleep = self._computed = 0.0
        self._previous: Any = None

    def __enter__(self) -> Self:
        self._look()
        self._came = False
        with contextlib.suppress(ValueError):  # only the main thread may ask for signals
            self._previous = signal.signal(signal.SIGCONT, self._continued)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Watches no longer."""
        self._ended.set()
        self._thread.join()
        if self._previous is not None:
            signal.signal(signal.SIGCONT, self._previous)

    def came(self) -> bool:
        """Whether there was a pause since this was last asked."""
        self._look()
        came, self._came = self._came, False
        return came

    def _continued(self, number: int, frame: FrameType | None) -> None:
        self._came = True

    def _watch(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            seen, asleep, computed = time.monotonic(), _asleep_seconds(), time.process_time()
            gap = seen - self._seen
            idle = computed - self._computed < _IDLE * gap
            slept = asleep - self._asleep > _SLEEP_SECONDS
            self._came = self._came or slept or (gap > _PAUSE_SECONDS and idle)
            self._seen, self._asleep, self._computed = seen, asleep, computed


def _asleep_seconds() -> float:
    """How long the machine has been suspended since it was started; Linux only, else 0."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
