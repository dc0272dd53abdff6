import sys
from pathlib import Path

import pytest

from harness.terminal.errors import UserError
from harness.training.children import Children, Ended
from harness.training.devices import Processes


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is started instead of a run: prints its arguments and its port."""
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "print(*sys.argv[1:], os.environ.get('JAX_COORDINATOR_PORT'))\n"
        "print('warning: a warning')\n"
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
    assert children.run("1", keeps_warnings=True).warnings == ("warning: a warning",)
    assert children.run("1").code == 1
    out = capfd.readouterr().out
    assert out.count("warning: a warning") == 2
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


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("port", ["80", "65536", "many"])
def test_a_port_that_is_none_is_one_line(port: str) -> None:
    with pytest.raises(UserError, match=f"^coordinator's port '{port}': must lie in"):
        Children([], Processes(f"host:{port}", 2, 0)).run("0")


def test_a_child_that_a_signal_ended_has_the_code_of_a_shell(stand_in: Path) -> None:
    stand_in.write_text("#!/bin/sh\nkill -9 $$\n")
    assert Children([], None).run("0") == Ended(137, None)
