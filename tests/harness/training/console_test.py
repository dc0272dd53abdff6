import io
import time

import pytest

from harness.training import console
from harness.training.console import Console


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_REMINDER_SECONDS", 0.01)


def test_what_is_said_is_on_the_terminal_and_in_the_log(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    with Console(log) as said:
        said.begin("compile")
        said.line("done")
        said.log_only("a traceback")
    assert capsys.readouterr().out == "compile ...\ndone\n"
    assert log.getvalue() == "compile ...\ndone\na traceback\n"


def test_a_quiet_one_keeps_the_log(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with Console(log, quiet=True) as said:
        said.line("done")
    assert capsys.readouterr().out == ""
    assert log.getvalue() == "done\n"


@pytest.mark.usefixtures("quick")
def test_a_phase_that_takes_long_is_reminded_of_until_it_ends(log: io.StringIO) -> None:
    with Console(log, quiet=True) as said:
        said.begin("compile")
        deadline = time.monotonic() + 10
        while "s so far" not in log.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        said.end()
        assert "compile: 0 s so far\n" in log.getvalue()
    ended = log.getvalue()
    time.sleep(0.05)
    assert log.getvalue() == ended


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
