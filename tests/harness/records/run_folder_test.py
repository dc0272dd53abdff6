"""Where runs are kept: folders and buckets, and a run that is asked for again."""

import json
from pathlib import Path

import pytest
from commands import record_of, run

from harness.cases import reading
from harness.records import history, journal, record, storage
from harness.records.ownership import Owner
from harness.records.run_folder import RunFolder
from harness.terminal.errors import UserError
from harness.training import going_on


def test_a_run_kept_elsewhere_is_written_there_and_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "is_remote", lambda path: str(path).startswith(str(tmp_path)))
    (tmp_path / "run").mkdir()  # a bucket needs no folders
    first = RunFolder(tmp_path, "run", Owner())
    first.append_metrics({"step": 0})
    first.log.write("one\n")
    first.write_status("running", 0)
    first.close()
    assert not first.path.exists()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 0

    second = RunFolder(tmp_path, "run", Owner(), resume=True)
    second.append_metrics({"step": 1})
    second.append_save({"step": 1})
    second.append_evaluation({"step": 1})
    second.log.write("two\n")
    other = RunFolder(tmp_path, "run", Owner(), process=1, resume=True)
    other.log.write("three\n")
    other.append_metrics({"step": 1})  # the first process does
    other.close()
    second.close()
    for name, steps in ((history.METRICS, [0, 1]), (history.SAVES, [1])):
        read = journal.read(tmp_path / "run" / name)
        assert ([entry["step"] for entry in read.entries], read.faults) == (steps, [])
    assert (tmp_path / "run" / "log.txt").read_text() == "one\ntwo\n"
    assert (tmp_path / "run" / "log.1.txt").read_text() == "three\n"


CASE = ("--case", "03_dropout", "--impl", "nnx", "--steps", "5", "--run-id", "asked")


def test_a_run_that_is_asked_for_again(tmp_path: Path) -> None:
    def asked(*arguments: str) -> tuple[int, str]:
        ended = run(*CASE, "--results-dir", tmp_path, *arguments)
        return ended.returncode, ended.stdout + ended.stderr

    assert asked("--set", "checkpoint.directory=/dev/null/x")[0] == 2  # nothing was saved: begins
    assert record_of(tmp_path / "asked")["status"] == "failed"
    assert asked()[0] == 0
    complete = record_of(tmp_path / "asked")
    assert [attempt["status"] for attempt in complete["attempts"]] == ["failed"]
    assert len(complete["steps"]) == 5

    where = tmp_path / "asked" / "record.json"
    assert asked() == (0, f"asked: is complete\nrecord: {where}\n")
    assert asked("--steps", "6") == (
        2,
        f"error: --run-id asked: {tmp_path / 'asked'} already holds a run that differs in"
        " run.steps\n",
    )
    assert record_of(tmp_path / "asked") == complete


def goes_on_as(where: Path, impl: str, init: str, *settings: str) -> None:
    first = reading.load("03_dropout", "tiny", ())
    start = {"impl": "nnx", "size": "tiny", "recipe": "reference", "init": "shared"}
    before = record.blank("stopped", "preempted", **start)
    before["case"]["hash"] = reading.case_hash(first, "tiny", "reference")
    again = reading.load("03_dropout", "tiny", settings)
    going_on.check_same(before, again, {**start, "impl": impl, "init": init}, where)


def test_a_stopped_run_goes_on_with_other_steps_and_saves(tmp_path: Path) -> None:
    goes_on_as(tmp_path, "nnx", "shared", "run.steps=20", "checkpoint.period=3")


@pytest.mark.parametrize(
    ("impl", "init", "setting", "differing"),
    [
        ("linen", "shared", "run.steps=10", "impl"),
        ("nnx", "native", "run.steps=10", "init"),
        ("nnx", "shared", "model.dropout_rate=0.2", "case"),
    ],
)
def test_a_stopped_run_goes_on_only_as_itself(
    impl: str, init: str, setting: str, differing: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        goes_on_as(tmp_path, impl, init, setting)
    assert str(refused.value) == (
        f"--run-id stopped: {tmp_path} already holds a run that differs in {differing}"
    )
