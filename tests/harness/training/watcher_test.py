import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compared_records import make

from harness.published import maxtext_steps
from harness.records import journal
from harness.records.ownership import Owner
from harness.records.recorder import Recorder
from harness.records.run_folder import RunFolder
from harness.terminal.console import Console
from harness.training.watcher import Watcher

ENTRY = {
    "step": 3,
    "loss": 10.5,
    "grad_norm": 2.0,
    "learning_rate": 0.0,
    "step_seconds": 0.5,
    "total_weights": 64.0,
    "after_save": False,
}


@pytest.fixture
def record() -> Any:
    made = make(run_id="a-run")
    made["environment"]["device_count"] = 2
    made["model"]["tflop_per_step_per_device"] = 1.0
    return made


@pytest.fixture
def watcher(tmp_path: Path, record: Any) -> Iterator[Watcher]:
    folder = RunFolder(tmp_path, "a-run", Owner())
    with Console(io.StringIO()) as console:
        yield Watcher(folder, console, Recorder(record), tensorboard=False, unit="token")
    folder.close()


def status(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "a-run" / "status.json").read_text())
    return told


def test_a_step_is_a_line_on_the_terminal_and_in_the_files(
    watcher: Watcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.step(ENTRY)
    watcher.step({**ENTRY, "step": 4, "loss": None, "accuracy": 0.25})
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "completed step: 3, seconds: 0.500, TFLOP/s/device: 2.000, Tokens/s/device: 64.000,"
        " total_weights: 64, loss: 10.500"
    )
    assert second.endswith("loss: nan, accuracy: 0.25")
    lines = (tmp_path / "a-run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 4]
    assert (status(tmp_path)["state"], status(tmp_path)["step"]) == ("running", 4)
    assert (watcher.last_step, watcher.step_seconds) == (4, 1.0)


def test_an_evaluation_is_a_line_that_is_kept(
    watcher: Watcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries: list[dict[str, Any]] = [
        {"step": 3, "loss": 8.25, "seconds": 0.5, "accuracy": 0.25},
        {"step": 5, "loss": None, "seconds": 0.5, "accuracy": 0.25},
    ]
    for entry in entries:
        watcher.evaluation(entry)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "eval metrics after step: 3, loss=8.25, accuracy=0.25, seconds=0.500"
    assert "loss=nan" in lines[1]
    told = maxtext_steps.evaluations("\n".join(lines))
    assert told[0] == {"step": 3, "loss": 8.25, "seconds": None}
    assert journal.read(tmp_path / "a-run" / "evals.jsonl").entries == entries


def test_what_the_model_tells_has_its_own_place_in_tensorboard(tmp_path: Path, record: Any) -> None:
    folder = RunFolder(tmp_path, "a-run", Owner())
    with Console(io.StringIO()) as console:
        metrics = ("z_loss",)
        watcher = Watcher(folder, console, Recorder(record), True, "token", metrics)
        watcher.step(ENTRY | {"z_loss": 2.5, "gradient_scale": 0.5})
        watcher.evaluation({"step": 3, "loss": 8.25, "seconds": 0.5, "z_loss": 2.25})
        watcher.close(with_summary=False)
    folder.close()
    (file,) = (tmp_path / "a-run" / "tensorboard").glob("events.*")
    told = file.read_bytes()
    names = ("model/z_loss", "learning/gradient_scale", "learning/loss", "eval/avg_loss")
    for name in (*names, "eval/z_loss"):
        assert name.encode() in told, name


def test_without_a_formula_the_rate_is_unknown(
    watcher: Watcher, record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    record["model"]["tflop_per_step_per_device"] = None
    watcher.step(ENTRY)
    assert "TFLOP/s/device: unknown" in capsys.readouterr().out


def test_a_phase_is_told_and_kept(
    watcher: Watcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.phase("compile")
    assert capsys.readouterr().out == "compile ...\n"
    assert status(tmp_path)["state"] == "compile"


def test_the_end_tells_error_warnings_and_the_record_last(
    watcher: Watcher, record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    record |= {"error": "it failed", "warnings": ["one", "two"]}
    watcher.close(with_summary=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["error: it failed", "warning: one", "warning: two"]
    assert any(line.startswith("parameters") for line in lines)
    assert lines[-1].startswith("record: ")
    assert lines[-1].endswith("a-run/record.json")
