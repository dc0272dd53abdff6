"""A run that goes on after something became of its folder: whole, said, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import run_folders
from run_folders import FAULTS, RUN

from harness.cases import reading
from harness.records import record, sealing
from harness.records.ownership import Owner
from harness.records.record import RecordError
from harness.saving import restoring
from harness.terminal.errors import UserError
from harness.training import leftover
from harness.training.leftover import Left


def find(results: Path) -> Left | None:
    with Owner() as owner:
        return leftover.find(results, RUN, owner)


@pytest.fixture
def expected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What is known of a killed run, and a checkpoint that tells of it."""
    expected = run_folders.killed(tmp_path)
    about = {name: expected[name] for name in leftover.ABOUT}
    place = tmp_path / RUN / leftover.CHECKPOINTS
    monkeypatch.setattr(restoring, "about", lambda path: about if path == place else None)
    return expected


def test_all_is_well(expected: dict[str, Any], tmp_path: Path) -> None:
    assert find(tmp_path) == Left(expected, [], 0)
    assert leftover.find(tmp_path, "another", Owner()) is None


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("name", ["record.json", "config.txt"])
def test_no_fault_costs_a_step_or_a_save_or_goes_unsaid(
    name: str, how: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / RUN / name
    assert run_folders.spoil(path, how)
    spoilt = path.read_bytes() if path.exists() else None
    left = find(tmp_path)
    assert left is not None
    for key in (*leftover.ABOUT, "steps", "evals", "status"):
        assert left.record[key] == expected[key]
    assert left.record["checkpoint"]["saves"] == expected["checkpoint"]["saves"]
    assert left.begun == 0
    (fault,) = left.faults
    assert name in fault
    record.validate(left.record)
    if name == "record.json":
        assert fault.endswith("made again from the newest checkpoint")
        if spoilt is not None:
            assert (tmp_path / RUN / "record.json.bad").read_bytes() == spoilt


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        # Of a start that was killed before it wrote its record.
        ("run.steps=30", None),
        ("checkpoint.keep_last=9", None),
        ("optim.learning_rate=1e-4", "config.txt: is not the case of record.json, which counts"),
    ],
)
def test_config_is_of_this_run(
    setting: str, fault: str | None, expected: dict[str, Any], tmp_path: Path
) -> None:
    config = expected["case"]["config"]
    case = reading.from_flat("03_dropout", config, [setting])
    text = sealing.sealed_text(reading.flat_text(case))
    (tmp_path / RUN / "config.txt").write_text(text)
    left = find(tmp_path)
    assert left is not None
    assert left.faults == ([] if fault is None else [fault])
    assert left.record["case"]["config"] == config


def test_without_a_checkpoint_a_damaged_record_is_refused_and_stays(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any], tmp_path: Path
) -> None:
    for about in (None, {"run_id": RUN}, dict.fromkeys(leftover.ABOUT, "another")):
        monkeypatch.setattr(restoring, "about", lambda path, about=about: about)
        path = tmp_path / RUN / "record.json"
        path.write_text("{")
        with pytest.raises(RecordError, match=r"not JSON.*; no checkpoint tells what was run"):
            find(tmp_path)
        assert path.read_text() == "{"
    path.unlink()
    assert find(tmp_path) is None  # begins anew


def test_checkpoints_that_lie_elsewhere_are_found_by_the_case(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any], tmp_path: Path
) -> None:
    about = {name: expected[name] for name in leftover.ABOUT}
    monkeypatch.setattr(restoring, "about", lambda path: about if path == "/far/away" else None)
    config = tmp_path / RUN / "config.txt"
    told = config.read_text()
    assert "checkpoint.directory: null\n" in told
    config.write_text(told.replace("directory: null", "directory: /far/away"))
    (tmp_path / RUN / "record.json").unlink()
    left = find(tmp_path)
    assert left is not None
    assert left.record["steps"] == expected["steps"]


def test_one_that_is_complete_is_not_taken_over(tmp_path: Path) -> None:
    expected = run_folders.completed(tmp_path)
    with Owner() as owner:
        owner.take(tmp_path / RUN)
        assert find(tmp_path) == Left(expected, [], 0)
        (tmp_path / RUN / "record.json").unlink()
        with pytest.raises(UserError, match="is being written by"):
            find(tmp_path)
