"""What is said of each workload, what is fetched, and what is left alone."""

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import collect
import compared_records
import pytest
import run_folders

from harness.cases import reading
from harness.records import history, record
from harness.records.run_folder import KILLED
from harness.terminal.errors import UserError

CASE = reading.load("03_dropout", "tiny", ())


def made(name: str, status: record.Status, error: str | None, **changes: Any) -> record.Record:
    made = record.blank(name, status, impl="nnx", size="tiny", recipe="reference", init="shared")
    flat = reading.flatten(CASE)
    digest = reading.case_hash(CASE, "tiny", "reference")
    made["case"] = {"name": CASE.name, "hash": digest, "config": flat}
    made["timing"]["wall_seconds"] = 90.0
    if status == "completed":
        made["steps"] = [compared_records.step(number) for number in range(10)]
    return made | {"error": error} | changes


def left(output: Path, found: record.Record, state: str, code: int | None) -> Path:
    """A run's folder as it would lie at the output."""
    folder = output / found["run_id"]
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("init ...\n")
    (folder / "log.1.txt").write_text("init ...\n")
    (folder / "config.txt").write_text("run.steps: 10\n")
    (folder / "metrics.jsonl").write_text('{"step": 0}\n')
    (folder / "program.txt.gz").write_bytes(gzip.compress(b"HloModule m\n"))
    (folder / "checkpoints").mkdir()
    record.write(folder / "record.json", found)
    (folder / "status.json").write_text(
        json.dumps({"state": state, "step": 3, "exit_code": code}) + "\n"
    )
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """One run of each kind, and a folder that is nobody's."""
    output = tmp_path / "output"
    left(output, made("mt-done-nnx-aaaaa", "completed", None), "completed", 0)
    left(output, made("mt-goes-nnx-bbbbb", "failed", KILLED), "running", None)
    hangs = left(output, made("mt-hangs-nnx-ccccc", "failed", KILLED), "compile", None)
    for path in hangs.iterdir():
        os.utime(path, (1.0, 1.0))
    left(output, made("mt-fails-nnx-ddddd", "failed", "step 3: loss is nan"), "failed", 1)
    left(output, made("mt-stops-nnx-eeeee", "preempted", "saved step 3"), "preempted", 42)
    torn = left(output, made("mt-torn-nnx-fffff", "completed", None), "completed", 0)
    text = (torn / "record.json").read_text()
    (torn / "record.json").write_text(text[: len(text) // 2])
    other = left(output, made("mt-other-nnx-zzzzz", "completed", None), "completed", 0)
    other.rename(output / "mt-alien-nnx-ggggg")
    (output / "somebody-elses").mkdir()
    return output


@pytest.fixture
def submission(output: Path, tmp_path: Path) -> Path:
    expected = ["done-nnx-aaaaa", "goes-nnx-bbbbb", "hangs-nnx-ccccc", "fails-nnx-ddddd"]
    expected += ["stops-nnx-eeeee", "torn-nnx-fffff", "alien-nnx-ggggg", "never-nnx-hhhhh"]
    workloads = [{"name": f"mt-{one}", "case": "03_dropout", "impl": "nnx"} for one in expected]
    path = tmp_path / "submission.json"
    path.write_text(
        json.dumps({"format": 1, "output": str(output), "chips": 8, "workloads": workloads})
    )
    return path


def collected(submission: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """The exit code, and what was said by the first word of each line."""
    code = collect.main([str(submission), "--results-dir", str(results(submission))])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    return code, dict(lines)


def results(submission: Path) -> Path:
    return submission.parent / "results"


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_each_is_named_rightly(submission: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = collected(submission, capsys)
    assert code == 1
    said = {name.split("-")[1]: rest for name, rest in told.items() if name.startswith("mt-")}
    assert said["done"] == "complete   10 of 10 steps, 12.0 chip-minutes"
    assert said["goes"] == "running    running, step 3"
    assert said["hangs"].startswith("silent     compile, step 3; no word for ")
    assert said["fails"] == "failed     step 3: loss is nan; 0 of 10 steps"
    assert said["stops"].startswith("preempted  saved step 3; 0 of 10 steps: goes on when")
    assert said["torn"].startswith("damaged    record.json: truncated or not JSON, at line")
    assert said["alien"] == "alien      the record there is of run mt-other-nnx-zzzzz"
    assert said["never"].startswith("missing    no result: not started")
    assert told["not"] == "of this submission: somebody-elses"
    here = results(submission)
    assert not (here / "mt-alien-nnx-ggggg").exists()
    assert not (here / "mt-torn-nnx-fffff" / "record.json").exists()
    assert sorted(path.name for path in (here / "mt-done-nnx-aaaaa").iterdir()) == [
        *(".collected.json", "config.txt", "log.1.txt", "log.txt"),
        *("metrics.jsonl", "program.txt.gz", "record.json", "status.json"),
    ]


def test_collecting_again_changes_nothing(
    submission: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = collected(submission, capsys)
    before = files(results(submission))
    assert collected(submission, capsys) == first
    assert files(results(submission)) == before


def test_a_run_that_went_on_is_brought_up_to_date(
    submission: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collected(submission, capsys)
    name = "mt-goes-nnx-bbbbb"
    record.write(output / name / "record.json", made(name, "completed", None))
    with (output / name / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 1}\n')
    _, told = collected(submission, capsys)
    assert told[name].startswith("complete")
    assert record.read(results(submission) / name / "record.json")["status"] == "completed"
    assert len((results(submission) / name / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_collection_that_was_cut_off_goes_on(
    submission: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collected(submission, capsys)
    done = results(submission) / "mt-done-nnx-aaaaa"
    for name in ("record.json", "status.json", ".collected.json"):
        (done / name).unlink()
    _, told = collected(submission, capsys)
    assert told["mt-done-nnx-aaaaa"].startswith("complete")
    assert record.read(done / "record.json")["status"] == "completed"


def test_what_is_complete_and_here_is_not_asked_for_again(
    submission: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collected(submission, capsys)
    (output / "mt-done-nnx-aaaaa").rename(output / "gone")
    _, told = collected(submission, capsys)
    assert told["mt-done-nnx-aaaaa"].startswith("complete")


@pytest.mark.parametrize("name", ["log.txt", "record.json"])
def test_a_file_that_was_changed_here_is_left_and_told_of(
    name: str, submission: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collected(submission, capsys)
    mine = results(submission) / "mt-done-nnx-aaaaa" / name
    mine.write_text("mine")
    code, told = collected(submission, capsys)
    assert mine.read_text() == "mine"
    assert told[str(mine)] == "was changed here: left as it is"
    assert code == 1


def test_the_exit_code_is_0_only_when_all_are_complete(
    submission: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.loads(submission.read_text())
    submission.write_text(json.dumps({**text, "workloads": text["workloads"][:1]}))
    assert collected(submission, capsys)[0] == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not a submission: Expecting"),
        ("[]", "not a submission: "),
        ('{"format": 2}', "format 2 is not known"),
        ('{"format": 1, "output": "/x", "chips": 8, "workloads": []}', "it holds no workload"),
        (
            '{"format": 1, "output": "/x", "chips": 8, "workloads":'
            ' [{"name": "../x", "case": "a", "impl": "nnx"}]}',
            "run id '../x': must be",
        ),
    ],
)
def test_a_file_that_is_no_submission_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        collect.main([str(path)])
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pipe_at_the_output_is_not_waited_for(submission: Path, output: Path) -> None:
    os.mkfifo(output / "mt-goes-nnx-bbbbb" / "log.2.txt")
    with pytest.raises(UserError, match=r"is not a plain file: .*log\.2\.txt"):
        collect.main([str(submission), "--results-dir", str(results(submission))])


def test_a_submission_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        collect.main([str(tmp_path / "nothing.json")])


@pytest.mark.parametrize("how", run_folders.FAULTS)
@pytest.mark.parametrize("name", [*history.JOURNALS, "config.txt", "status.json", "record.json"])
def test_what_is_damaged_is_named(
    name: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, path = tmp_path / "output", tmp_path / "submission.json"
    run_folders.completed(output)
    workload = {"name": run_folders.RUN, "case": "03_dropout", "impl": "nnx"}
    asked = {"format": 1, "output": str(output), "chips": 8, "workloads": [workload]}
    path.write_text(json.dumps(asked))
    assert collected(path, capsys)[0] == 0
    shutil.rmtree(results(path))
    if not run_folders.spoil(output / run_folders.RUN / name, how):
        pytest.skip("a single line")
    assert collect.main([str(path), "--results-dir", str(results(path))]) == 1
    said = capsys.readouterr().out
    assert name in said or ("no record yet" in said and name == "record.json")


@pytest.mark.parametrize("name", ["..", "a/b", "", "\x1b[31m", "x" * 300])
def test_a_workload_with_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    workload = {"name": name, "case": "03_dropout", "impl": "nnx"}
    asked = {"format": 1, "output": str(tmp_path), "chips": 8, "workloads": [workload]}
    path.write_text(json.dumps(asked))
    with pytest.raises(UserError, match=r"^.*: not a submission: ") as refused:
        collect.main([str(path)])
    assert str(refused.value).isprintable()


def test_what_others_wrote_is_shown_without_its_control_characters(
    submission: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "mt-fails-nnx-ddddd"
    record.write(output / name / "record.json", made(name, "failed", "\x1b[2J gone"))
    _, told = collected(submission, capsys)
    assert told[name] == "failed     ?[2J gone; 0 of 10 steps"
