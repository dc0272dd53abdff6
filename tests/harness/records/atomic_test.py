"""Files that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from harness.records import atomic


@pytest.mark.parametrize("content", ["a text: ä", b"\x00bytes"])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    atomic.write(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("at", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("before")
    monkeypatch.setattr(at, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, "after")
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_only_a_file_that_must_survive_the_machine_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    atomic.write(tmp_path / "file", "one", to_disk=False)
    assert not waited
    atomic.write(tmp_path / "file", "two")
    assert len(waited) == 1
