"""Where results are kept: folders and buckets."""

import importlib.util
import time
from pathlib import Path

import pytest
from commands import run

from harness.records import storage
from harness.terminal import installing
from harness.terminal.errors import UserError


def test_places() -> None:
    assert storage.place("results/here") == Path("results/here")
    for text in ("s3://bucket/runs", "gs://", "gs:///"):
        with pytest.raises(UserError, match="must be a folder or gs://BUCKET/FOLDER"):
            storage.place(text)


@pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is not None, reason="the extra for buckets is installed"
)
def test_a_bucket_without_its_extra_is_refused_in_one_line() -> None:
    asked = run("--case", "03_dropout", "--impl", "nnx", "--results-dir", "gs://bucket/runs")
    assert asked.returncode == 2
    (told,) = asked.stderr.splitlines()
    assert told == f"error: gs://bucket/runs: needs gcsfs: {installing.command('gcs')}"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that a mirror wrote, in order."""
    names: list[str] = []
    write = Path.write_bytes

    def noted(path: Path, content: bytes) -> int:
        names.append(path.name)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", noted)
    return names


def test_a_mirror_sends_what_has_changed_the_record_and_the_status_last(
    sent: list[str], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "profile").mkdir(parents=True)
    for name in ("status.json", "record.json", "metrics.jsonl", "profile/a.pb", ".hidden.tmp"):
        (here / name).write_text(name)
    mirror = storage.Mirror(here, there, lambda: None)
    mirror.sync()
    assert sent == ["a.pb", "metrics.jsonl", "record.json", "status.json"]
    mirror.sync()
    assert len(sent) == 4
    (here / "metrics.jsonl").write_text("more")
    mirror.close()
    assert sent[4:] == ["metrics.jsonl"]
    assert (there / "metrics.jsonl").read_text() == "more"
    assert (there / "profile" / "a.pb").read_text() == "profile/a.pb"


def test_what_a_mirror_sends_last_knows_no_more_than_what_it_sent_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However the run goes on meanwhile."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in ("metrics.jsonl", "record.json"):
        (here / name).write_text("step 1")
    write = Path.write_bytes

    def slow(path: Path, content: bytes) -> int:
        if path == there / "metrics.jsonl":
            for name in ("metrics.jsonl", "record.json"):
                (here / name).write_text("step 1, 2")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", slow)
    mirror = storage.Mirror(here, there, lambda: None)
    mirror.sync()
    assert {path.read_text() for path in there.iterdir()} == {"step 1"}
    mirror.close()
    assert {path.read_text() for path in there.iterdir()} == {"step 1, 2"}


def test_a_mirror_keeps_up_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storage, "_UPLOAD_SECONDS", 0.01)
    (tmp_path / "here").mkdir()
    mirror = storage.Mirror(tmp_path / "here", tmp_path / "there", lambda: None)
    (tmp_path / "here" / "log.txt").write_text("init ...")
    deadline = time.monotonic() + 10
    while not (tmp_path / "there" / "log.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    mirror.close()


def test_a_mirror_that_cannot_write_says_so_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "_ATTEMPTS", 1)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").write_text("a file")
    mirror = storage.Mirror(tmp_path / "here", tmp_path / "there", lambda: None)
    (tmp_path / "here" / "log.txt").write_text("init ...")
    with pytest.raises(UserError, match="File exists"):
        mirror.close()


def test_a_mirror_sends_nothing_that_may_not_be_sent(tmp_path: Path) -> None:
    def refuse() -> None:
        raise UserError("taken over")

    (tmp_path / "here").mkdir()
    mirror = storage.Mirror(tmp_path / "here", tmp_path / "there", refuse)
    (tmp_path / "here" / "log.txt").write_text("init ...")
    with pytest.raises(UserError, match="taken over"):
        mirror.close()
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "x/y"), "here: No space left on device: x/y"),
        (OSError(28, "No space left on device", "here"), "here: No space left on device"),
        (OSError(28, "No space left on device"), "here: No space left on device"),
        (OSError("no number"), "here: no number"),
        (PermissionError(), "here: PermissionError"),
    ],
)
def test_what_the_storage_cannot_do_is_one_line(error: Exception, told: str) -> None:
    with pytest.raises(UserError) as refused, storage.errors_told(Path("here")):
        raise error
    assert str(refused.value) == told


def test_a_fault_of_the_program_is_none_of_the_storage() -> None:
    with pytest.raises(ZeroDivisionError), storage.errors_told(Path("here")):
        raise ZeroDivisionError
    with pytest.raises(UserError, match=r"^gs://b/x: other$"), storage.errors_told("gs://b/x"):
        raise ValueError("other")


def test_a_file_of_this_machine_is_its_own_copy(tmp_path: Path) -> None:
    assert storage.local_copy(tmp_path / "file") == tmp_path / "file"
