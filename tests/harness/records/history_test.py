"""What may become of a run's files: nothing is lost, nothing changes unseen."""

import json
from pathlib import Path
from typing import Any

import pytest
import run_folders
from run_folders import FAULTS, RUN, STEPS

from harness.records import finding, history, record
from harness.records.record import RecordError

FILES = (
    *("metrics.jsonl", "evals.jsonl", "saves.jsonl"),
    *("record.json", "status.json", "config.txt"),
)


def left(results: Path) -> tuple[dict[str, Any], list[str]]:
    """What a killed run has left by its record and its journals."""
    found = record.read(results / RUN / "record.json")
    faults, begun = history.complete(found, results / RUN)
    assert begun == 0
    return found, faults


def test_what_was_recorded_after_the_last_save_is_in_the_journals(tmp_path: Path) -> None:
    expected = run_folders.killed(tmp_path)
    on_disk = record.read(tmp_path / RUN / "record.json")
    assert [entry["step"] for entry in on_disk["steps"]] == [*range(13)]
    assert [save["step"] for save in on_disk["checkpoint"]["saves"]] == [6]
    assert [entry["step"] for entry in on_disk["evals"]] == [4, 9]
    assert [entry["step"] for entry in expected["evals"]] == [4, 9, 14]
    assert left(tmp_path) == (expected, [])


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("name", ["metrics.jsonl", "evals.jsonl", "saves.jsonl", "status.json"])
def test_no_fault_of_a_journal_costs_a_value_or_goes_unseen(
    name: str, how: str, tmp_path: Path
) -> None:
    expected = run_folders.killed(tmp_path)
    if not run_folders.spoil(tmp_path / RUN / name, how):
        pytest.skip("a single line")
    found, faults = left(tmp_path)
    if name == "metrics.jsonl":  # what came after the last save is trained again
        steps = [entry for entry in found["steps"] if entry["step"] <= 12]
        assert steps == expected["steps"][:13]
        assert all(entry in expected["steps"] for entry in found["steps"])
    else:
        assert found["steps"] == expected["steps"]
    saves, evaluations = found["checkpoint"]["saves"], found["evals"]
    assert saves == expected["checkpoint"]["saves"][: len(saves)]
    assert evaluations[:2] == expected["evals"][:2]
    assert evaluations[2:] in ([], expected["evals"][2:])  # after the last save: made again
    if name != "saves.jsonl":
        assert len(saves) == 2
    if name != "evals.jsonl":
        assert len(evaluations) == 3
    # The last save is in one file alone: were it lost unseen, its checkpoint tells of it. So is the
    # last evaluation.
    unseen = {
        "saves.jsonl": ("a line gone", "the last line gone", "cut in the middle"),
        "evals.jsonl": ("the last line gone",),
    }
    assert faults or how in unseen.get(name, ())
    assert all(fault.startswith(("metrics.jsonl", name)) for fault in faults), faults


def test_of_steps_trained_twice_the_last_word_counts(tmp_path: Path) -> None:
    expected = run_folders.killed(tmp_path)
    journal = history.journal.Journal(tmp_path / RUN / history.METRICS)
    again = expected["steps"][10] | {"step_seconds": 0.5}
    journal.append(again)
    journal.close()
    found, faults = left(tmp_path)
    assert faults == []
    assert found["steps"][10] == again


def test_what_both_have_lost_is_known_to_be_lacking(tmp_path: Path) -> None:
    steps = run_folders.killed(tmp_path)["steps"]
    assert history.lacking(steps, range(13)) is None
    del steps[3], steps[6:9]
    assert history.lacking(steps, range(13)) == "steps 3, 7 to 9"
    assert history.lacking(steps, range(3)) is None
    assert history.lacking([], range(4, 6)) == "steps 4 to 5"
    assert history.lacking([], range(100)) == "steps 0 to 99"
    assert history.lacking([], [7]) == "step 7"
    every_other = [{"step": step} for step in range(1, 100, 2)]
    assert history.lacking(every_other, range(99)) == "steps 0, 2, 4, 6, 8 and others"


def test_where_a_run_began_is_not_guessed(tmp_path: Path) -> None:
    """One whose record and whose first lines are gone may have begun at 0."""
    run_folders.killed(tmp_path)
    blank = record.blank(RUN, "failed")
    path = tmp_path / RUN / history.METRICS
    lines = path.read_bytes().splitlines(keepends=True)
    for kept, begun in ((lines, 0), (lines[5:], 0)):
        path.write_bytes(b"".join(kept))
        found = json.loads(json.dumps(blank))
        assert history.complete(found, tmp_path / RUN)[1] == begun
    found["steps"] = record.read(tmp_path / RUN / "record.json")["steps"][7:]
    assert history.complete(found, tmp_path / RUN)[1] == 5


def test_a_folder_of_an_older_version_is_read_as_it_is(tmp_path: Path) -> None:
    expected = run_folders.killed(tmp_path)
    path = tmp_path / RUN / history.METRICS
    for name, entries in ((path.name, expected["steps"]), ("evals.jsonl", expected["evals"])):
        path.with_name(name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / RUN / history.STATUS).write_text('{"state": "running", "step": 16}\n')
    (tmp_path / RUN / history.SAVES).unlink()
    found, faults = left(tmp_path)
    assert faults == []
    assert found["steps"] == expected["steps"]
    changed = [entry | {"loss": 1.0} if entry["step"] == 4 else entry for entry in found["steps"]]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in changed) + '{"stop": 1}\n')
    found, faults = left(tmp_path)
    assert found["steps"] == expected["steps"]
    assert faults == [
        "metrics.jsonl: holds 1 line that a record cannot",
        "metrics.jsonl: differs from record.json in step 4: not taken",
    ]


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("name", FILES)
def test_no_fault_of_a_completed_run_goes_unseen_by_who_reads_it(
    name: str, how: str, tmp_path: Path
) -> None:
    expected = run_folders.completed(tmp_path)
    assert len(expected["steps"]) == STEPS
    assert finding.load_all([tmp_path])[1] == finding.find(RUN, tmp_path)[1] == []
    if not run_folders.spoil(tmp_path / RUN / name, how):
        pytest.skip("a single line")
    found, warnings = finding.load_all([tmp_path])
    assert len(warnings) == 1
    assert f"/{RUN}" in warnings[0]
    assert name in warnings[0]
    if name != "record.json":
        assert [one.record for one in found] == [expected]
        assert finding.find(RUN, tmp_path) == (found, warnings)
        return
    assert found == []
    with pytest.raises(RecordError, match=r"record\.json: .*; --resume run-1 makes it again"):
        finding.find(RUN, tmp_path)


def test_a_record_that_was_copied_alone_is_well(tmp_path: Path) -> None:
    expected = run_folders.completed(tmp_path)
    assert set(expected["files"]) == {"config.txt", *history.JOURNALS}
    for path in (tmp_path / RUN).iterdir():
        if path.name != "record.json":
            path.unlink()
    assert finding.load_all([tmp_path])[1] == []
