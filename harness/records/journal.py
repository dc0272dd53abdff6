"""Files of JSON lines that only grow, each line sealed and chained to the one before it."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import sealing, storage

_AFTER = "after_sha256"  # of a line: the beginning of the checksum of the line before it
_LARGEST = 2**30  # bytes of a file
_LINK = 16  # letters of it
_OUT_OF_PLACE = "does not follow the one before it: lines are missing, or moved"


@dataclass
class Lines:
    """What can be relied on of a journal.

    faults: what is wrong with the rest, a line each; is_sealed: whether all lines carry checksums,
    as those of older versions do not; is_whole: whether it begins with the first line written;
    link: what the next line is chained to; size: bytes up to a last line that was cut by a kill.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_sealed: bool = True
    is_whole: bool = True
    link: str = ""
    size: int = 0

    def add(self, line: bytes) -> str | None:
        """Takes the next line; returns what is wrong with it."""
        try:
            entry = sealing.parse(line)
        except (ValueError, RecursionError):
            return "cannot be read"
        if not self.link and isinstance(entry, dict) and sealing.SEAL not in entry:
            self.entries.append(entry)
            self.is_sealed = False
            return None
        try:
            content = sealing.opened(entry)
        except sealing.Broken as error:
            return str(error)
        is_next = content.pop(_AFTER, None) == self.link
        self.is_whole = self.is_whole and (is_next or bool(self.entries))
        self.link = entry[sealing.SEAL][:_LINK]
        self.entries.append(content)
        return None if is_next else _OUT_OF_PLACE


class Journal:
    """A journal that is written on; a last line that a kill has cut is taken away first."""

    def __init__(self, path: Path) -> None:
        before = read(path)
        self._link = before.link
        self._file = path.open("ab")
        if self._file.tell() > before.size:
            os.truncate(path, before.size)
        elif before.size and path.read_bytes()[-1:] != b"\n":
            self._file.write(b"\n")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line, at once."""
        line = sealing.sealed({**entry, _AFTER: self._link})
        self._link = line[sealing.SEAL][:_LINK]
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(path: Any) -> Lines:
    """Reads a journal, whatever has become of it; one that is not there is empty."""
    content = storage.content(path, _LARGEST) if path.exists() else b""
    *lines, cut = content.split(b"\n")
    size = len(content) - len(cut)
    with contextlib.suppress(ValueError, RecursionError):
        sealing.parse(cut)
        lines, size = [*lines, cut], len(content)  # whole, but for its end
    found = Lines(size=size)
    was_good = True
    for number, line in enumerate(lines, 1):
        if line.strip():
            fault = found.add(line)
            # What follows a line that is not good cannot follow it as it did.
            if fault is not None and (fault != _OUT_OF_PLACE or was_good):
                found.faults.append(f"line {number} {fault}")
            was_good = fault in (None, _OUT_OF_PLACE)
    return found
