"""Journals: what was written is read, and whatever became of a line is named."""

import json
from pathlib import Path

import pytest

from harness.records import journal
from harness.records.journal import Journal

COUNT = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six lines, of two starts."""
    path = tmp_path / "metrics.jsonl"
    for numbers in (range(4), range(4, COUNT)):
        written = Journal(path)
        for step in numbers:
            written.append({"step": step, "loss": 9.125 - step / 3})
        written.close()
    return path


def steps(path: Path) -> list[int]:
    return [entry["step"] for entry in journal.read(path).entries]


def test_what_was_written_is_read(path: Path) -> None:
    found = journal.read(path)
    assert found.entries == [{"step": step, "loss": 9.125 - step / 3} for step in range(COUNT)]
    assert (found.faults, found.is_sealed, found.is_whole) == ([], True, True)
    assert found.size == path.stat().st_size
    assert journal.read(path.with_name("none")).entries == []


def test_a_line_that_a_kill_has_cut_is_normal_and_goes_when_it_is_written_on(path: Path) -> None:
    content = path.read_bytes()
    for length in (1, 20, 100):
        path.write_bytes(content[:-length])
        found = journal.read(path)
        assert (len(found.entries), found.faults) == (COUNT if length == 1 else COUNT - 1, [])
        again = Journal(path)
        again.append({"step": 99})
        again.close()
        assert steps(path)[-2:] == [5 if length == 1 else 4, 99]
        assert journal.read(path).faults == []


LOST = "does not follow the one before it: lines are missing, or moved"


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"loss": ', '"loss": 1', "has changed since it was written"),
        ('"step"', '"stop"', "has changed since it was written"),
        ('"after_sha256": "', '"after_sha256": "0', "has changed since it was written"),
        ('"sha256": "', '"sha256": "0', "has changed since it was written"),
        ("{", "", "cannot be read"),
        (":", ": \xff", "cannot be read"),
        ("\n", "", None),  # runs into the next line
    ],
)
def test_a_changed_line_is_named_and_left_out(
    number: int, old: str, new: str, told: str | None, path: Path
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(old.encode(), new.encode("latin-1"), 1)
    path.write_bytes(b"".join(lines))
    found = journal.read(path)
    if told is None:
        if number == COUNT - 1:
            assert (len(found.entries), found.faults) == (COUNT, [])
            return
        assert len(found.entries) == COUNT - 2
        told = "cannot be read"
    else:
        assert steps(path) == [step for step in range(COUNT) if step != number]
    assert found.faults == [f"line {number + 1} {told}"]
    assert found.is_whole == (number > 0)


@pytest.mark.parametrize(
    ("order", "faults", "is_whole"),
    [
        ([1, 2, 3, 4, 5], [1], False),
        ([0, 1, 3, 4, 5], [3], True),
        ([0, 1, 2, 2, 3, 4, 5], [4], True),
        ([0, 2, 1, 3, 4, 5], [2, 3, 4], True),
    ],
)
def test_lines_that_are_gone_moved_or_doubled_are_named(
    order: list[int], faults: list[int], is_whole: bool, path: Path
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    found = journal.read(path)
    assert steps(path) == order
    assert found.faults == [f"line {number} {LOST}" for number in faults]
    assert found.is_whole == is_whole


def test_lines_without_checksums_are_those_of_older_versions_and_come_first(path: Path) -> None:
    sealed = path.read_bytes()
    old = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(3))
    path.write_bytes(old)
    found = journal.read(path)
    assert (steps(path), found.faults, found.is_sealed, found.link) == ([0, 1, 2], [], False, "")
    path.write_bytes(old + sealed)
    assert (len(steps(path)), journal.read(path).faults) == (3 + COUNT, [])
    path.write_bytes(sealed + old)
    assert journal.read(path).faults == [f"line {COUNT + n} has no checksum" for n in (1, 2, 3)]


@pytest.mark.parametrize("content", [b"\x00" * 50, b"\xff\n", b"[" * 20000, b"null\n", b"\n\n"])
def test_what_is_no_journal_has_no_entries(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert journal.read(path).entries == []
