from pathlib import Path

import picture
import pytest

from harness.terminal.errors import UserError

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_shows_pictures_that_are_there_small_and_of_both_schemes() -> None:
    text = README.read_text(encoding="utf-8")
    for scheme in picture.SCHEMES:
        path = picture.PICTURES / f"case-{scheme}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 200_000
        assert path.relative_to(README.parent).as_posix() in text


def test_a_browser_that_is_missing_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHROMIUM", "here")
    assert picture.browser() == "here"
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="CHROMIUM names none"):
        picture.browser()
