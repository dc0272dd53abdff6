"""Files that were named to have something written there."""

from pathlib import Path

from harness.terminal.errors import UserError


def write(path: Path, text: str) -> None:
    """Writes a text; raises UserError where that cannot be done, as on a full disk."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
