from pathlib import Path

import pytest

from harness.saving import folders
from harness.terminal.errors import UserError


def test_steps_are_folders_of_digits(tmp_path: Path) -> None:
    for name in ("10", "9", "5.bad", "notes"):
        (tmp_path / name).mkdir()
    assert sorted(folders.step_numbers(tmp_path)) == [9, 10]
    assert folders.step_numbers(tmp_path / "nowhere") == []


def test_a_folder_is_that_of_a_run_or_of_its_checkpoints(tmp_path: Path) -> None:
    assert folders.place(tmp_path / "one" / "..") == tmp_path  # tensorstore takes no dots
    with pytest.raises(UserError, match="must be a folder or gs://"):
        folders.place("s3://bucket")


def test_a_path_holds_steps_or_is_refused(tmp_path: Path) -> None:
    for name in ("10", "9", "notes"):
        (tmp_path / name).mkdir()
    assert [path.name for path in folders.steps(tmp_path)] == ["9", "10"]
    with pytest.raises(UserError, match="notes: holds no checkpoint; give a folder of checkpoints"):
        folders.steps(tmp_path / "notes")


def test_what_can_be_restored_or_told_of_is_not_refused_before(tmp_path: Path) -> None:
    (tmp_path / "run" / "5.bad").mkdir(parents=True)
    (tmp_path / "some.npz").write_text("")
    for path in (tmp_path / "run", tmp_path / "some.npz"):
        folders.require(path)
    with pytest.raises(UserError, match=r"other\.npz: does not exist"):
        folders.require(tmp_path / "other.npz")
