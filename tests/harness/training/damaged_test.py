"""A killed run that goes on after something became of its files: nothing is lost, all is named."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest
import run_folders
from commands import record_of

from harness import run as command
from harness.records import finding, history
from harness.training import devices
from harness.training.watcher import Watcher

CASE = (
    *("--case", "toy.yaml", "--size", "tiny", "--twins", "toy_family", "--impl", "nnx_"),
    *("--steps", "12", "--set", "eval.every=2", "--set", "checkpoint.period=4"),
    *("--set", "checkpoint.async=false"),
)
KILLED, SAVED = 10, 8  # the step after which it is, and the last that it saved
QUICK = (("evals.jsonl", "a digit changed"), ("record.json", "cut in the middle"))
FILES = (*history.JOURNALS, history.STATUS, "record.json", "config.txt")
TABLE = [
    pytest.param(name, how, marks=() if (name, how) in QUICK else pytest.mark.faults)
    for name in FILES
    for how in run_folders.FAULTS
]


class Begun(NamedTuple):
    """An undisturbed run, and the results folder as a kill in its middle would have left it."""

    whole: dict[str, Any]
    killed: Path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    results, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    finished = Watcher.step

    def step(self: Watcher, entry: dict[str, Any]) -> None:
        finished(self, entry)
        if entry["step"] == KILLED:
            shutil.copytree(results / "run", killed / "run")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "prepare", lambda *_: jax.devices()[:1])
        patch.setattr(Watcher, "step", step)
        patch.chdir(results)
        Path("toy.yaml").write_text("data:\n  sequence_length: 16\n")
        assert command.main([*CASE, "--run-id", "run", "--results-dir", str(results)]) == 0
    return Begun(record_of(results / "run"), killed)


@pytest.fixture
def folder(begun: Begun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(devices, "prepare", lambda *_: jax.devices()[:1])
    shutil.copytree(begun.killed, tmp_path / "results")
    return tmp_path / "results" / "run"


def resumed(folder: Path) -> dict[str, Any]:
    assert command.main(["--resume", folder.name, "--results-dir", str(folder.parent)]) == 0
    return record_of(folder)


def lasting(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a step or an evaluation gives however often it is made."""
    measured = ("seconds", "step_seconds", "after_save", "after_eval", "stopped")
    return [{key: one[key] for key in one if key not in measured} for one in entries]


@pytest.mark.parametrize(("name", "how"), TABLE)
def test_a_run_goes_on_whole_whatever_became_of_a_file(
    name: str, how: str, begun: Begun, folder: Path
) -> None:
    if not run_folders.spoil(folder / name, how):
        pytest.skip("a single line")
    record, whole = resumed(folder), begun.whole
    assert record["status"] == "completed"
    for key in ("steps", "evals"):
        assert lasting(record[key]) == lasting(whole[key])
        kept = [entry for entry in whole[key] if entry["step"] <= SAVED]
        assert record[key][: len(kept)] == kept
    assert record["checkpoint"]["digest"] == whole["checkpoint"]["digest"]
    *earlier, last, _ = record["checkpoint"]["saves"]
    assert earlier == whole["checkpoint"]["saves"][:2]
    is_lost = last["blocking_seconds"] is None
    assert last["step"] == SAVED
    assert is_lost or last == whole["checkpoint"]["saves"][2]
    told = [one for one in record["warnings"] if name in one]
    if is_lost and name == history.SAVES:
        told += [one for one in record["warnings"] if one.startswith(f"save of step {SAVED}: ")]
    # The last evaluation is in one file alone, and is made again.
    assert told or (name, how) == (history.EVALUATIONS, "the last line gone")
    assert finding.load_all([folder])[1] == []


def test_evaluations_that_nothing_tells_any_more_are_known_to_be_lost(
    begun: Begun, folder: Path
) -> None:
    (folder / "record.json").unlink()
    assert run_folders.spoil(folder / history.EVALUATIONS, "a digit changed")
    record = resumed(folder)
    have = {entry["step"] for entry in record["evals"]}
    # None where the run was killed so early that it evaluates the state of that step once more.
    lost = {entry["step"] for entry in begun.whole["evals"]} - have
    told = "neither record.json nor evals.jsonl has the evaluations after step "
    warned = [one for one in record["warnings"] if one.startswith(told)]
    assert len(warned) == len(lost)
    assert all(f"{told}{step}: they are" in warned[0] for step in lost)
