import io
import re
import time
from collections.abc import Callable

import pytest

from harness.terminal import console
from harness.terminal.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_RENEWED_SECONDS", 0.01)
    monkeypatch.setattr(console, "_LOG_SECONDS", 0.02)


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_what_is_said_is_on_the_terminal_and_in_the_log(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    with Console(log) as said:
        said.begin("compile")
        said.line("done")
        said.log_only("a traceback")
        said.begin("not announced", announced=False)
    assert capsys.readouterr().out == "compile ...\ndone\n"
    assert log.getvalue() == "compile ...\ndone\na traceback\n"


def test_a_quiet_one_keeps_the_log(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(log, quiet=True) as said:
        said.line("done")
    assert capsys.readouterr().out == ""
    assert log.getvalue() == "done\n"


@pytest.mark.usefixtures("quick")
def test_work_that_takes_long_is_reminded_of_until_it_ends(log: io.StringIO) -> None:
    with Console(log, quiet=True) as said:
        said.begin("compile")
        wait(lambda: "s so far" in log.getvalue())
        said.end()
        assert re.search(r"^compile: \d+ s so far$", log.getvalue(), re.MULTILINE)
    ended = log.getvalue()
    time.sleep(0.05)
    assert log.getvalue() == ended


@pytest.mark.usefixtures("quick")
def test_how_far_and_how_long_still_are_told(log: io.StringIO) -> None:
    with Console(log, quiet=True) as said:
        said.expect(4)
        said.done()
        said.done()
        said.begin("compile", usual=75.4)
        wait(lambda: "still" in log.getvalue())
    assert re.search(
        r"^compile: \d+ s so far, about 1 min \d+ s still;"
        r" 2 of 4 done, \d+ s so far, about \d+ s still$",
        log.getvalue(),
        re.MULTILINE,
    )


@pytest.mark.usefixtures("quick")
def test_on_a_terminal_one_line_renews_itself(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "18")
    with Console(log) as said:
        said.begin("compile")
        wait(lambda: terminal.getvalue().count("\r") > 2)
        said.line("done")
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown[0] == "compile ...\n"
    assert re.fullmatch(r"compile: \d s so f", shown[1])  # as wide as the terminal but for one
    assert "\r\x1b[Kdone\n" in terminal.getvalue()
    assert "\x1b" not in log.getvalue()
    assert re.search(r"^compile: \d+ s so far$", log.getvalue(), re.MULTILINE)


def test_a_log_that_is_full_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    log = open("/dev/full", "w")  # noqa: SIM115
    with Console(log) as said:
        said.line("one")
        said.line("two")
    assert capsys.readouterr().out == "one\ntwo\n"
    with pytest.raises(OSError, match="No space left"):
        log.close()


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_terminal_that_is_gone_does_not_end_the_run(
    error: OSError, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr("sys.stdout", Gone())
    with Console(log) as said:
        said.line("one")
        said.line("two")
    assert log.getvalue() == "one\ntwo\n"
