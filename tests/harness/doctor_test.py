"""What the doctor says of a machine that is well, and of one with a fault."""

from pathlib import Path
from typing import Any

import jax
import pytest

from harness import doctor
from harness.records import environment
from harness.terminal import installing
from harness.terminal.errors import UserError
from harness.training import devices, joining, machine


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests' own devices, which have started."""
    monkeypatch.setattr(devices, "prepare", lambda *_, **__: jax.devices())


def examined(capsys: pytest.CaptureFixture[str], results: Path | str) -> tuple[int, dict[str, str]]:
    code = doctor.main(["--results-dir", str(results)])
    lines = capsys.readouterr().out.splitlines()
    return code, {line[7:17].strip(): line[:7].strip() + " " + line[19:] for line in lines}


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, told = examined(capsys, tmp_path / "results")
    assert code == 0
    assert all(line.startswith("ok ") for line in told.values())
    assert "jax 0." in told["versions"]
    assert told["devices"].startswith("ok 8 x cpu, of 1 host that answered: ")
    assert told["collective"] == "ok the sum over 8 devices is right"
    assert told["a run"].startswith("ok 01_baseline, tiny: 0.")
    assert told["a run"].endswith(" s a step, 2 saves")
    assert list((tmp_path / "results").iterdir()) == []


@pytest.fixture
def without_a_run(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    tried: list[bool] = []

    def run(processes: object, results: object, usable: bool) -> str:
        tried.append(usable)
        return "done"

    monkeypatch.setattr(machine, "_run", run)
    return tried


def test_results_that_cannot_be_written(
    without_a_run: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = examined(capsys, "/dev/null/x")
    assert code == 1
    assert told["results"].startswith("FAULT --results-dir /dev/null/x: /dev/null is not a folder")
    assert told["a run"].startswith("ok")
    assert without_a_run == [False]


def test_results_that_hosts_do_not_share(
    without_a_run: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def apart(place: Any) -> None:
        raise UserError(f"{place}: of 2 processes, 1 do not see it")

    monkeypatch.setattr(joining, "require_shared", apart)
    code, told = examined(capsys, tmp_path)
    assert code == 1
    assert told["shared"].startswith(f"FAULT {tmp_path}: of 2 processes")
    assert without_a_run == [False]


def test_a_tpu_without_its_library_or_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "platform", lambda: "tpu")
    code, told = examined(capsys, tmp_path)
    assert code == 1
    mend = installing.command("tpu")
    assert told["devices"] == f"FAULT this machine has a tpu, and JAX runs on cpu: {mend}"
    assert "a run" not in told
    monkeypatch.setattr(environment, "is_installed", lambda name: False)
    code, told = examined(capsys, tmp_path)
    assert told["devices"].startswith("FAULT this machine has a tpu, and libtpu is not installed")
    assert told["devices"].endswith(mend)


def test_hosts_that_are_told_badly_are_bad_input() -> None:
    with pytest.raises(UserError, match="go together"):
        doctor.main(["--processes", "2"])
