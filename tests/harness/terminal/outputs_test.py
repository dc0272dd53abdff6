"""Named files that are written, or a line says why not."""

from pathlib import Path

import pytest

from harness.terminal import outputs
from harness.terminal.errors import UserError


def test_a_text_is_written_whatever_its_letters(tmp_path: Path) -> None:
    outputs.write(tmp_path / "page.md", "µs\n")
    assert (tmp_path / "page.md").read_bytes() == "µs\n".encode()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/dev/full", "No space left on device"),
        ("/", "Is a directory"),
        ("/nowhere/page.md", "No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_one_line(place: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^{place}: {told}$"):
        outputs.write(Path(place), "text")
