"""What a run says while it goes on: on the terminal and, the same, in its log."""

import threading
import time
from typing import Self, TextIO

from harness.terminal import cli

_REMINDER_SECONDS = 15


class Console:
    """Prints lines to standard output and to a log; reminds of a phase that takes long."""

    def __init__(self, log: TextIO, quiet: bool = False) -> None:
        self._log = log
        self._quiet = quiet
        self._phase: str | None = None
        self._phase_start = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reminder = threading.Thread(target=self._remind, daemon=True)
        self._reminder.start()

    def line(self, text: str) -> None:
        """Prints one line or several."""
        with self._lock:
            if not self._quiet:
                cli.say(text)
            self.log_only(text)

    def log_only(self, text: str) -> None:
        """Keeps a text that is too long for a terminal, such as a traceback."""
        self._log.write(text + "\n")
        self._log.flush()

    def begin(self, phase: str) -> None:
        """Announces a phase; the one before it is over."""
        self._phase, self._phase_start = phase, time.monotonic()
        self.line(f"{phase} ...")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stops the reminders."""
        self._ended.set()
        self._reminder.join()

    def end(self) -> None:
        """No phase is under way: steps report themselves."""
        self._phase = None

    def _remind(self) -> None:
        while not self._ended.wait(_REMINDER_SECONDS):
            phase = self._phase
            if phase is not None:
                self.line(f"{phase}: {time.monotonic() - self._phase_start:.0f} s so far")
