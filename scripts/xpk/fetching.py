"""Copies a run's small files from where it wrote them, never over a file changed here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import atomic, history, record, storage
from harness.records.record import RecordError

_OUTCOME = ("status.json", "record.json")
_FILES = ("config.txt", "program.txt.gz", "metrics.jsonl", *_OUTCOME)
_SOME = ("names.txt", history.EVALUATIONS, history.SAVES)  # that not every run has
_LARGEST = 2**30  # bytes of one
_FETCHED = ".collected.json"  # what lies beside the files: the sha256 of each as it was fetched


@dataclass(frozen=True)
class Left:
    """What a run left: the contents of its files by name, and when it last wrote one."""

    files: Mapping[str, bytes]
    written: float | None = None  # seconds since 1970


@dataclass
class Fetched:
    """What came of fetching: the names of files that differ here, and so were left alone."""

    differing: list[str] = field(default_factory=list)


class Source:
    """A run's folder at the output location, and the one here."""

    def __init__(self, remote: Any, local: Path) -> None:
        self._remote = remote
        self._local = local

    def there(self) -> Left:
        """All small files of the run: the record last, as its run wrote it."""
        if not self._remote.is_dir():
            return Left({})
        present = {path.name: path for path in self._remote.iterdir()}
        logs = sorted(name for name in present if name.startswith("log.") and name[-4:] == ".txt")
        names = [*logs, *(name for name in (*_SOME, *_FILES) if name in present)]
        files = {name: storage.content(present[name], _LARGEST) for name in names}
        return Left(files, max((_written(present[name]) for name in names), default=None))

    def here(self) -> Left:
        """The files that were fetched."""
        return Left({name: (self._local / name).read_bytes() for name in _OUTCOME})

    def is_done(self) -> bool:
        """Whether a complete run's files are all here, as they were fetched: nothing is to do."""
        fetched = self._fetched()
        try:
            if set(_FILES) - set(fetched):
                return False
            if record.read(self._local / "record.json")["status"] != "completed":
                return False
            return all(
                _sha256((self._local / name).read_bytes()) == known
                for name, known in fetched.items()
            )
        except (OSError, RecordError):
            return False

    def fetch(self, left: Left) -> Fetched:
        """Writes what is new or has grown; a record that cannot be read stays where it is."""
        result, fetched = Fetched(), self._fetched()
        for name, content in left.files.items():
            if name == "record.json" and problem(content) is not None:
                continue
            path = self._local / name
            before = path.read_bytes() if path.exists() else None
            if before is not None and before != content and _sha256(before) != fetched.get(name):
                result.differing.append(str(path))
                continue
            if before != content:
                self._local.mkdir(parents=True, exist_ok=True)
                atomic.write(path, content)
            if fetched.get(name) != _sha256(content):
                fetched[name] = _sha256(content)
                atomic.write(self._local / _FETCHED, json.dumps(fetched, indent=1) + "\n")
        return result

    def _fetched(self) -> dict[str, str]:
        try:
            return dict(json.loads((self._local / _FETCHED).read_text()))
        except (OSError, ValueError, TypeError):
            return {}


def damaged(folder: Path) -> list[str]:
    """What was damaged beside a run's record, on its way or before, a line each."""
    try:
        found = record.read(folder / "record.json")
    except RecordError:
        return []
    return [f"{folder}: {fault}" for fault in history.changed(found, folder)]


def problem(content: bytes) -> str | None:
    """Why a record cannot be used, None when it can."""
    try:
        record.parse(content)
    except RecordError as error:
        return str(error)
    return None


def _written(path: Any) -> float:
    state = path.stat()
    return float(state.mtime if storage.is_remote(path) else state.st_mtime)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
