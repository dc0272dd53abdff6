"""The log beside a record: what it counts, and as much of it as a page can carry."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SHOWN_BYTES = 200_000  # of the beginning, and of the end
_LINE_BYTES = 65_536  # read at a time: a line may be longer than the memory
_QUOTED = 5
_QUOTED_LETTERS = 300
_ERROR = re.compile(rb"(?i)\b(?:error|exception|traceback|fatal)\b")
_WARNING = re.compile(rb"(?i)\bwarn(?:ing)?s?\b")


@dataclass(frozen=True)
class Log:
    """lines, errors, warnings: counts of lines; quoted: the first of those that tell of either."""

    lines: int
    errors: int
    warnings: int
    quoted: tuple[str, ...]
    beginning: str
    end: str  # empty when `beginning` is all
    left_out_bytes: int


def read(path: Path) -> Log | None:
    """Reads a log; None where no readable one is there."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            counts = _count(file)
            size = file.tell()
            file.seek(0)
            beginning = file.read(min(size, 2 * _SHOWN_BYTES))
            end = b""
            if size > 2 * _SHOWN_BYTES:
                beginning = beginning[:_SHOWN_BYTES]
                file.seek(size - _SHOWN_BYTES)
                end = file.read(_SHOWN_BYTES)
    except OSError:
        return None
    left_out = size - len(beginning) - len(end)
    return Log(*counts, _text(beginning), _text(end), left_out)


def _count(file: BinaryIO) -> tuple[int, int, int, tuple[str, ...]]:
    lines = errors = warnings = 0
    quoted: list[str] = []
    starts = True
    while piece := file.readline(_LINE_BYTES):
        if starts:
            lines += 1
            is_error = bool(_ERROR.search(piece))
            is_warning = not is_error and bool(_WARNING.search(piece))
            errors += is_error
            warnings += is_warning
            if (is_error or is_warning) and len(quoted) < _QUOTED:
                quoted.append(_text(piece[: 4 * _QUOTED_LETTERS])[:_QUOTED_LETTERS].strip())
        starts = piece.endswith(b"\n")
    return lines, errors, warnings, tuple(quoted)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace").replace("\r\n", "\n")
