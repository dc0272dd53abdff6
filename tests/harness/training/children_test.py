"""Several runs of one command: which are made, where they meet, and what ends them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.training import children, several
from harness.training.children import Children, Ended
from harness.training.devices import Processes


def test_each_child_has_a_coordinator_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Processes("host:65534", 2, 1)
    ports = [children.coordinator_of(given, number)[0][1] for number in range(3)]
    assert ports == ["host:65534", "host:65535", "host:1024"]
    monkeypatch.delenv("JAX_COORDINATOR_PORT", raising=False)
    assert children.coordinator_of(None, 1) == ([], {"JAX_COORDINATOR_PORT": "8483"})
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "5000")
    assert children.coordinator_of(None, 2) == ([], {"JAX_COORDINATOR_PORT": "5002"})


@pytest.mark.parametrize("given", ["host", "host:", "host:80", "host:70000", "host:x"])
def test_a_coordinator_without_a_port_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=f"--coordinator {given}: the port must lie in"):
        children.coordinator_of(Processes(given, 2, 0), 0)


class Told(Children):
    """Children that are not started: they end with the codes given, the last one stopped."""

    def __init__(self, codes: Sequence[int], stopped_after: int = 99) -> None:
        super().__init__([], None)
        self.codes, self.stopped_after = iter(codes), stopped_after
        self.calls: list[tuple[str, ...]] = []

    def run(self, *last: str) -> Ended:
        self.calls.append(last)
        self.stopped = len(self.calls) >= self.stopped_after
        return Ended(next(self.codes), None)


def wanted(repeats: int = 1, in_turns: bool = True) -> several.Wanted:
    return several.Wanted({"A": [], "B": ["--recipe", "fast"]}, repeats, "name", in_turns)


def test_all_variants_are_run_and_then_two_in_turns() -> None:
    told = Told([0] * 5)
    assert several.run(wanted(repeats=2), told) == 0
    names = [call[-1] for call in told.calls[:4]]
    assert names == ["name-A-1", "name-B-1", "name-A-2", "name-B-2"]
    assert told.calls[1][:2] == ("--recipe", "fast")
    assert told.calls[4] == ("--in-turns", "-", "-")


def test_nothing_is_run_in_turns_where_that_is_not_wanted_or_a_run_failed() -> None:
    told = Told([0, 0])
    assert several.run(wanted(in_turns=False), told) == 0
    assert len(told.calls) == 2
    told = Told([1, 0])
    assert several.run(wanted(), told) == 1
    assert len(told.calls) == 2


def test_turns_that_fail_leave_the_runs_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert several.run(wanted(), Told([0, 0, 137])) == 0
    assert "not measured in turns: ended with 137" in capsys.readouterr().out


def test_once_asked_to_stop_nothing_more_is_run() -> None:
    told = Told([42], stopped_after=1)
    assert several.run(wanted(repeats=2), told) == 42
    assert len(told.calls) == 1


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is started instead of a run: prints its arguments and its port."""
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "print(*sys.argv[1:], os.environ.get('JAX_COORDINATOR_PORT'))\n"
        "print('record: results/a-run/record.json')\n"
        "sys.exit(int(sys.argv[-1]))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.delenv("JAX_COORDINATOR_PORT", raising=False)
    return program


@pytest.mark.usefixtures("stand_in")
def test_a_child_has_the_arguments_and_tells_its_record(
    capfd: pytest.CaptureFixture[str],
) -> None:
    children = Children(["--case", "03_dropout"], None)
    assert children.run("--impl", "nnx", "0") == Ended(0, Path("results/a-run/record.json"))
    assert children.run("1").code == 1
    out = capfd.readouterr().out
    assert "-m harness.run --case 03_dropout --impl nnx 0 8482" in out
    assert "-m harness.run --case 03_dropout 1 8483" in out
    assert not children.stopped


@pytest.mark.usefixtures("stand_in")
def test_processes_together_are_told_another_port_each_time(
    capfd: pytest.CaptureFixture[str],
) -> None:
    children = Children([], Processes("host:65535", 2, 1))
    for _ in range(2):
        children.run("0")
    out = capfd.readouterr().out
    assert "--coordinator host:65535" in out
    assert "--coordinator host:1024" in out


def test_a_child_that_a_signal_ended_has_the_code_of_a_shell(stand_in: Path) -> None:
    stand_in.write_text("#!/bin/sh\nkill -9 $$\n")
    assert Children([], None).run("0") == Ended(137, None)
