"""The command, what it refuses, and the records that lie in results/reference/published."""

import contextlib
import json
import re
import time
from pathlib import Path

import commands
import pytest
from documents import DATA, NAMES, content, read

from harness import ingest, published
from harness.published.document import LARGEST_BYTES, load, parse
from harness.records import record as record_module
from harness.terminal.errors import UserError

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "published"
# What the excerpts hold in place of people's names, accounts, hosts, buckets, paths and addresses.
FOREIGN = re.compile(
    r"somebody|somehost|example[.]com|bucket|://|@|/home|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+"
)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that the command ends with, at exit code 2."""
    with pytest.raises(SystemExit) as end:
        ingest.cli.main(lambda _: ingest.main([*map(str, arguments)]))
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").strip()


def test_the_command_writes_records_and_says_what_it_read(tmp_path: Path) -> None:
    arguments = (DATA / "maxview_04_int8.txt", "--results-dir", tmp_path)
    done = commands.run(*arguments, module="harness.ingest")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["kind: MaxView page", "run: published-04_int8-linen, steps: 10"]
    assert (
        "Avg s/step: the page says 3.674 3.47 -0.204, recomputed 3.674 3.47 -0.204: equal" in lines
    )
    assert lines[-2:] == [
        f"record: {tmp_path}/published-04_int8-{impl}/record.json" for impl in ("linen", "nnx")
    ]
    assert commands.record_of(tmp_path / "published-04_int8-nnx")["impl"] == "nnx"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_document_gives_the_same_records(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(DATA / name), "--results-dir", str(tmp_path)]
    assert ingest.main(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")}
    said = capsys.readouterr().out
    assert ingest.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")} == before
    assert capsys.readouterr().out == said


def test_another_record_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "maxview_08_checkpoint_async_true.txt"
    ingest.main([str(DATA / name), "--results-dir", str(tmp_path)])
    capsys.readouterr()
    path = next(tmp_path.glob("*/record.json"))
    before = path.read_bytes()
    changed = tmp_path / name
    changed.write_bytes(content(name).replace(b"4.189", b"4.190"))
    said = complaint(capsys, changed, "--results-dir", tmp_path)
    assert said.startswith(f"{path}: already holds another record")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (
            b"Dear Sir or Madam,\n",
            "is none of what can be read: MaxText log, MaxView page, Megatron-LM log, MaxText",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0", "byte 0 is not UTF-8"),
        (b"line\nli\0ne\n", "line 2 holds control character 0"),
        (b"completed step: \x1b(0", "line 1 holds control character 27"),
        (b"\x1f\x8b\x08 no stream", "a damaged .gz file"),
        (b"a" * 10_000_000, "none of"),
        (b"completed step: " * 700_000, "no completed step"),
        (b"x" * (LARGEST_BYTES + 1), "holds more than 64.000 MiB"),
    ],
    ids=[
        "empty",
        "blank",
        "foreign",
        "binary",
        "zero",
        "escape",
        "gz",
        "long",
        "repeated",
        "large",
    ],
)
def test_what_is_no_document_is_one_line(
    bytes_: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "document.txt"
    path.write_bytes(bytes_)
    assert expected in complaint(capsys, path, "--results-dir", tmp_path)


def test_what_cannot_be_read_or_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in complaint(capsys, tmp_path / "none.txt")
    assert "directory" in complaint(capsys, tmp_path)
    file = tmp_path / "file"
    file.touch()
    said = complaint(capsys, DATA / NAMES[0], "--results-dir", file)
    assert "is not a folder one can write to" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_document_cut_short_is_refused(name: str) -> None:
    """Cut where its run, its table's second run or its dimensions are not yet whole."""
    whole = content(name)
    for share in (0.1, 0.25, 0.4):
        with pytest.raises(UserError, match=r"cut short|no run on"):
            published.read(parse(name, whole[: int(len(whole) * share)].rsplit(b"\n", 1)[0]))


@pytest.mark.parametrize("name", NAMES)
def test_no_name_path_or_address_reaches_a_record(name: str) -> None:
    assert FOREIGN.search(content(name).decode())
    imported = read(name)
    assert not FOREIGN.search(json.dumps([*imported.records]) + "\n".join(imported.findings))


def test_the_documents_own_name_is_kept_in_harmless_letters(tmp_path: Path) -> None:
    path = tmp_path / "a <b>'s\x1b page\n.txt"
    path.write_bytes(content(NAMES[1]))
    record = published.read(load(str(path))).records[0]
    assert record["source"]["document"] == "a__b__s__page_.txt"


@pytest.mark.parametrize(
    ("name", "mark", "filling"),
    [
        (name, mark, filling)
        for name, mark in (
            ("maxview_03_dropout.txt", "Diff ="),
            ("maxview_04_int8.txt", "Final loss"),
            ("megatron_log.txt", "rank 6 forward start tensor 0"),
        )
        for filling in (
            "completed step: 1, seconds: ", "rank 6 forward ", "Metric ", "decoder/", " ", "-",
            "7.", "iteration 1/ 1 |", "| loss scale: ",
        )
    ],
)  # fmt: skip
def test_lines_of_ten_megabytes_are_read_in_seconds(name: str, mark: str, filling: str) -> None:
    line = filling * (10_000_000 // len(filling))
    text = content(name).decode().replace(mark, f"{line}\n{mark}", 1)
    begun = time.process_time()
    with contextlib.suppress(UserError):
        published.read(parse(name, text.encode()))
    assert time.process_time() - begun < 5


def test_the_committed_records_are_whole_and_named_in_their_readme() -> None:
    readme = (REFERENCE / "README.md").read_text()
    paths = sorted(REFERENCE.glob("*/record.json"))
    assert len(paths) == 7
    for path in paths:
        record = record_module.read(path)
        assert record["run_id"] == path.parent.name
        assert record["run_id"] in readme
        assert not FOREIGN.search(path.read_text())
        for entry in record["source"]["figures"]:
            assert entry["published"] in (None, entry["recomputed"])


@pytest.mark.parametrize("name", [name for name in NAMES if "axlearn" not in name])
def test_the_committed_records_are_those_of_the_excerpts(name: str) -> None:
    """But for the document they come from: the whole one there, an excerpt here."""
    for record in read(name).records:
        committed = record_module.read(REFERENCE / record["run_id"] / "record.json")
        for entry in (record, committed):
            del entry["source"]["document"], entry["source"]["document_sha256"]
            entry["source"].pop("commit", None)
        assert committed == record
