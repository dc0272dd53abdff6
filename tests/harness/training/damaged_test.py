"""A killed run that goes on after something became of its files: nothing is lost, all is named."""

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest
import run_folders
from commands import record_of
from moments import Moments

from harness import run as command
from harness.records import finding, history
from harness.records.cautions import Caution
from harness.records.ownership import Owner
from harness.terminal.errors import UserError
from harness.training import devices, leftover
from harness.training.watcher import Watcher

CASE = (
    *("--case", "toy.yaml", "--size", "tiny", "--twins", "toy_family", "--impl", "nnx_"),
    *("--steps", "12", "--set", "eval.every=2", "--set", "checkpoint.period=4"),
    *("--set", "checkpoint.async=false"),
)
KILLED, SAVED, LAST = 10, 8, 11  # the step after which it is, and the last that it saved
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
    moments: Moments  # of the undisturbed run, all at which it might have been killed


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    results, killed, kept = (tmp_path_factory.mktemp(name) for name in ("whole", "killed", "kept"))
    moments = Moments(results / "run", kept)
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
        with moments.watched():
            assert command.main([*CASE, "--run-id", "run", "--results-dir", str(results)]) == 0
    return Begun(record_of(results / "run"), killed, moments)


@pytest.fixture
def folder(begun: Begun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(devices, "prepare", lambda *_: jax.devices()[:1])
    shutil.copytree(begun.killed, tmp_path / "results")
    return tmp_path / "results" / "run"


def resumed(folder: Path, *options: str) -> dict[str, Any]:
    assert (
        command.main(["--resume", folder.name, "--results-dir", str(folder.parent), *options]) == 0
    )
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


def killed_at_each(moments: Moments) -> None:
    """Raises unless the next start finds all steps so far, and nothing damaged, at each moment."""
    known = 0
    for folder in moments.folders:
        with Owner() as owner:
            left = leftover.find(folder.parent, folder.name, owner)
        if left is not None:
            assert left.faults == [], folder.parent.name
            assert len(left.record["steps"]) >= known, folder.parent.name
            known = len(left.record["steps"])
    assert known == LAST + 1


def go_on(begun: Begun, moment: Path, results: Path, *options: str) -> None:
    """Raises unless a run that was killed then ends as the undisturbed one, killed again or not."""
    shutil.copytree(moment, results / "run")
    again = Moments(results / "run", results / "kept")
    with again.watched():
        record = resumed(results / "run", *options)
    for key in ("steps", "evals"):
        assert lasting(record[key]) == lasting(begun.whole[key])
    assert record["checkpoint"]["digest"] == begun.whole["checkpoint"]["digest"]
    assert not Caution.DAMAGED.among(record["warnings"])
    killed_at_each(again)


def test_a_kill_between_two_writes_leaves_nothing_damaged(
    begun: Begun, folder: Path, tmp_path: Path
) -> None:
    killed_at_each(begun.moments)
    # A save is there of which no file tells yet; and the next start has a case of its own.
    (committed,) = (one for one in begun.moments.folders if one.parent.name.endswith("rename 4"))
    go_on(begun, committed, tmp_path / "again", "--set", "checkpoint.keep_last=7")


def test_it_goes_on_to_no_fewer_steps_than_its_checkpoint_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record_of(folder)
    fewer = ("--resume", "run", "--results-dir", str(folder.parent), "--steps", str(SAVED))
    with pytest.raises(
        UserError, match=rf"run\.steps={SAVED}: .*to run\.steps={SAVED + 1} or more"
    ):
        command.main([*fewer])
    assert record_of(folder) == before
    assert command.main([*fewer[:-1], str(SAVED + 1)]) == 0
    assert len(record_of(folder)["steps"]) == SAVED + 1


@pytest.mark.faults
def test_nor_does_one_at_any_moment_and_then_at_any_other(
    begun: Begun, folder: Path, tmp_path: Path
) -> None:
    count = 0
    for moment in begun.moments.folders:
        # The next start takes nothing from status.json, nor from a file that is yet to be renamed.
        is_other = not re.search(r"status|\.tmp", moment.parent.name)
        has_record = (moment / "record.json").exists()
        if is_other and has_record and record_of(moment)["status"] != "completed":
            go_on(begun, moment, tmp_path / str(count))
            shutil.rmtree(tmp_path / str(count))
            count += 1
    assert count > 40
