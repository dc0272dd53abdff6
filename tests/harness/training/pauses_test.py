"""A process that did not run knows it."""

import os
import signal
import subprocess
import threading
import time

import pytest

from harness.training import pauses
from harness.training.pauses import Pauses


def stop_for(seconds: float) -> None:
    """Stops this process; another one makes it go on."""
    wake = ["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]
    with subprocess.Popen(wake):
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("seconds", [0.05, 0.8])
def test_a_process_that_was_stopped_knows_it_once(seconds: float) -> None:
    before = signal.getsignal(signal.SIGCONT)
    with Pauses() as watched:
        assert not watched.came()
        stop_for(seconds)
        assert watched.came()
        assert not watched.came()
    assert signal.getsignal(signal.SIGCONT) == before


class Clocks:
    """Set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = self.computed = self.asleep = 100.0
        monkeypatch.setattr(pauses, "_TICK_SECONDS", 1000.0)
        monkeypatch.setattr(pauses.time, "monotonic", lambda: self.seen)
        monkeypatch.setattr(pauses.time, "process_time", lambda: self.computed)
        monkeypatch.setattr(pauses, "_asleep_seconds", lambda: self.asleep)


@pytest.mark.parametrize(
    ("seen", "computed", "asleep", "came"),
    [
        (3.0, 0.01, 0.0, True),  # frozen, or held by a debugger
        (3.0, 2.9, 0.0, False),  # computed, and let no other thread run
        (0.3, 0.0, 0.0, False),  # a busy machine
        (0.01, 0.0, 60.0, True),  # asleep with its machine
    ],
)
def test_clocks_tell_what_no_signal_does(
    seen: float, computed: float, asleep: float, came: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    with Pauses() as watched:
        clocks.seen += seen
        clocks.computed += computed
        clocks.asleep += asleep
        assert watched.came() == came
        assert not watched.came()


def test_it_is_watched_also_between_two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(pauses, "_PAUSE_SECONDS", 5.0)
    with Pauses() as watched:
        time.sleep(0.1)  # a step that waits for its device
        assert not watched.came()


def test_in_a_thread_it_goes_without_signals() -> None:
    found = []

    def watch() -> None:
        with Pauses() as watched:
            found.append(watched.came())

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [False]
