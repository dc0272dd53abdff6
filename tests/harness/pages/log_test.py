from pathlib import Path

from harness.pages import log


def test_lines_that_tell_of_errors_and_warnings_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("fine\nERROR: one\nwarnings: two\nan error with a warning\nterror\nlast")
    found = log.read(path)
    assert found is not None
    assert (found.lines, found.errors, found.warnings) == (6, 2, 1)
    assert found.quoted == ("ERROR: one", "warnings: two", "an error with a warning")
    assert (found.beginning, found.end, found.left_out_bytes) == (path.read_text(), "", 0)


def test_the_middle_of_a_long_log_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"a" * 300_000 + b"\n" + b"\xff" * 300_000)
    found = log.read(path)
    assert found is not None
    assert found.lines == 2
    assert found.beginning == "a" * 200_000
    assert found.end == "\ufffd" * 200_000
    assert found.left_out_bytes == 200_001


def test_where_no_log_can_be_read_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert log.read(tmp_path / "folder") is None
    assert log.read(tmp_path / "none") is None
