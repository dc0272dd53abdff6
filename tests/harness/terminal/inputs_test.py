"""Files of others: nothing is waited for, and nothing fills the memory."""

import os
from pathlib import Path

import pytest

from harness.bisecting import files
from harness.cases import reading
from harness.published import document
from harness.records import journal, record
from harness.records.record import RecordError
from harness.saving import archives
from harness.terminal import inputs
from harness.terminal.errors import UserError


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert inputs.content(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="holds more than 99 bytes"):
        inputs.content(path, 99)
    with pytest.raises(FileNotFoundError):
        inputs.content(tmp_path / "none", 1)
    with pytest.raises(OSError, match="embedded null byte"):
        inputs.content("\0", 1)


@pytest.fixture(params=["pipe", "device", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "device":
        return Path("/dev/zero")
    path = tmp_path / "odd.yaml"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    return path


def test_what_is_no_plain_file_is_not_waited_for(odd: Path) -> None:
    told = "Is a directory" if odd.is_dir() else "is not a plain file"
    with pytest.raises(OSError, match=told):
        inputs.content(odd, 9)
    with pytest.raises(RecordError, match=told):
        record.read(odd)
    with pytest.raises(UserError, match=r"no such case|is not a plain file"):
        reading.load(str(odd))
    with pytest.raises(UserError, match=told):
        reading.case_hash(reading.load("01_baseline", "tiny", [f"data.tokens={odd}"]), "tiny", "x")
    with pytest.raises(OSError, match=told):
        journal.read(odd)
    with pytest.raises(UserError, match=f"{told}; give a log"):
        document.load(str(odd))
    with pytest.raises(UserError, match=rf"not readable as \.npz: \w+: .*{told}"):
        archives.read(odd, {})
    with pytest.raises(UserError, match="was not written by harness bisect --save"):
        files.read(str(odd))
