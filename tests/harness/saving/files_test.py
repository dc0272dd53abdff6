from pathlib import Path

import pytest

from harness.saving import files
from harness.saving.faults import Damaged


def test_what_is_no_step_is_told(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    with pytest.raises(Damaged, match="incomplete: its metadata is missing"):
        files.read_step(tmp_path / "3")


def test_a_step_without_metadata_has_no_digests(tmp_path: Path) -> None:
    step = files.StoredStep(tmp_path, 3, {}, None)
    assert step.digests == {}
    assert files.StoredStep(tmp_path, 3, {}, {"digests": {"a": "b"}}).digests == {"a": "b"}
