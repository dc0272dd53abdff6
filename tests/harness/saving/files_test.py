from pathlib import Path

import pytest

from harness.saving import files
from harness.saving.faults import Damaged
from harness.terminal.errors import UserError


def test_steps_are_folders_of_digits(tmp_path: Path) -> None:
    for name in ("10", "9", "5.bad", "notes"):
        (tmp_path / name).mkdir()
    assert sorted(files.step_numbers(tmp_path)) == [9, 10]
    assert files.step_numbers(tmp_path / "nowhere") == []


def test_a_folder_is_that_of_a_run_or_of_its_checkpoints(tmp_path: Path) -> None:
    assert files.folder(tmp_path / "one" / "..") == tmp_path  # tensorstore takes no dots
    with pytest.raises(UserError, match="must be a folder or gs://"):
        files.folder("s3://bucket")


def test_what_is_no_step_is_told(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    with pytest.raises(Damaged, match="incomplete: its metadata is missing"):
        files.read_step(tmp_path / "3")


def test_a_step_without_metadata_has_no_digests(tmp_path: Path) -> None:
    step = files.StoredStep(tmp_path, 3, {}, None)
    assert step.digests == {}
    assert files.StoredStep(tmp_path, 3, {}, {"digests": {"a": "b"}}).digests == {"a": "b"}
