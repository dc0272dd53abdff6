"""The phases of long work, each told with how long it took before.

What a phase took is kept beside the compiled programs of this user: a program that is compiled anew
takes about as long as the last time.
"""

import contextlib
import json
import time
from pathlib import Path

from harness.records import atomic
from harness.terminal.console import Console
from harness.training.devices import cache_folder

_WORTH_KEEPING = 5  # seconds; what is shorter is over before one asks


class Phases:
    """Begins phases of `work`, such as a case on some devices, on a console."""

    def __init__(self, console: Console, work: str) -> None:
        self._console = console
        self._work = work
        self._phase: str | None = None
        self._begun = 0.0

    def begin(self, phase: str, told: str | None = None, announced: bool = True) -> None:
        """Begins a phase, which is called `told`; the one before it is over."""
        self._keep()
        self._phase, self._begun = phase, time.monotonic()
        self._console.begin(told or phase, _read().get(f"{self._work}: {phase}"), announced)

    def end(self) -> None:
        """The last phase is over."""
        self._keep()
        self._phase = None
        self._console.end()

    def _keep(self) -> None:
        """Keeps the longest time: another may have found its program in a cache."""
        seconds = time.monotonic() - self._begun
        if self._phase is None or seconds < _WORTH_KEEPING:
            return
        known, what = _read(), f"{self._work}: {self._phase}"
        with contextlib.suppress(OSError):
            _path().parent.mkdir(parents=True, exist_ok=True)
            longest = max(seconds, known.get(what, 0.0))
            atomic.write(_path(), json.dumps(known | {what: round(longest, 1)}, indent=0))


def _path() -> Path:
    return cache_folder() / "seconds.json"


def _read() -> dict[str, float]:
    """Seconds by phase; empty where none can be read."""
    try:
        known = json.loads(_path().read_text(encoding="utf-8"))
        return {str(what): float(seconds) for what, seconds in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
