"""What a command says while it works: on the terminal and, the same, in a log."""

import contextlib
import shutil
import sys
import threading
import time
from typing import Self, TextIO

from harness.terminal import cli
from harness.terminal.text import duration

_RENEWED_SECONDS = 1
_LOG_SECONDS = 60
_ERASE = "\r\x1b[K"


class Console:
    """Prints lines to standard output and to a log, and tells how far work is that takes long.

    On a terminal the last line is about that work and renews itself; elsewhere, and in the log, it
    is a line a minute.
    """

    def __init__(self, log: TextIO | None = None, quiet: bool = False) -> None:
        self._log = log
        self._quiet = quiet
        self._is_terminal = not quiet and sys.stdout.isatty()
        self._is_shown = False  # the line that renews itself
        self._work: str | None = None
        self._usual: float | None = None
        self._begun = self._told = self._all_begun = time.monotonic()
        self._done = self._parts = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reminder = threading.Thread(target=self._remind, daemon=True)
        self._reminder.start()

    def line(self, text: str) -> None:
        """Prints one line or several."""
        with self._lock:
            self._line(text)

    def log_only(self, text: str) -> None:
        """Keeps a text that is too long for a terminal, such as a traceback.

        Where the log cannot take it, as on a full disk, its owner learns so when closing it.
        """
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.write(text + "\n")
                self._log.flush()

    def begin(self, work: str, usual: float | None = None, announced: bool = True) -> None:
        """Work begins that took `usual` seconds before, if that is known; any other is over."""
        with self._lock:
            self._work, self._usual = work, usual
            self._begun = self._told = time.monotonic()
            if announced:
                self._line(f"{work} ...")

    def expect(self, parts: int) -> None:
        """The work has so many parts; those that are left are taken to last as the others did."""
        with self._lock:
            self._parts, self._done, self._all_begun = parts, 0, time.monotonic()

    def done(self) -> None:
        """One part more is done."""
        with self._lock:
            self._done += 1

    def end(self) -> None:
        """No work is under way: steps report themselves."""
        with self._lock:
            self._work = None
            self._erase()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stops the reminders."""
        self._ended.set()
        self._reminder.join()
        self.end()

    def _line(self, text: str) -> None:
        self._erase()
        if not self._quiet:
            cli.say(text)
        self.log_only(text)

    def _erase(self) -> None:
        if self._is_shown:
            cli.say(_ERASE, end="")
            self._is_shown = False

    def _remind(self) -> None:
        while not self._ended.wait(_RENEWED_SECONDS):
            with self._lock:
                if self._work is not None:
                    self._renew(self._progress(), time.monotonic())

    def _renew(self, text: str, now: float) -> None:
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            cli.say(_ERASE + text[:width], end="")
            self._is_shown = True
        if now - self._told >= _LOG_SECONDS:
            self._told = now
            if self._is_terminal:
                self.log_only(text)
            else:
                self._line(text)

    def _progress(self) -> str:
        """What, how far, how long so far, about how long still."""
        now = time.monotonic()
        text = f"{self._work}: {_seconds(now - self._begun, self._usual)}"
        if self._parts:
            passed = now - self._all_begun
            usual = passed * self._parts / self._done if self._done else None
            text += f"; {self._done} of {self._parts} done, {_seconds(passed, usual)}"
        return text


def _seconds(passed: float, usual: float | None) -> str:
    still = "" if usual is None or usual <= passed else f", about {duration(usual - passed)} still"
    return f"{duration(passed)} so far{still}"
