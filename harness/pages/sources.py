"""The runs of a report: each record is read once and has a page of its own."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.pages import words
from harness.records import finding, record
from harness.records.record import Record, RecordError
from harness.terminal import inputs

PREFLIGHT_FILE = "records.json"  # a list of records, as `harness.preflight --json` writes them
_LARGEST = 2**28  # bytes of it


@dataclass(frozen=True)
class Run:
    """A record and its page. folder: where its log lies, None for one of a list."""

    record: Record
    page: str
    folder: Path | None

    @property
    def impl(self) -> str:
        """Which implementation, in a word."""
        return self.record["impl"] or "run"

    @property
    def short(self) -> str:
        """Enough of the id to tell it from its neighbours."""
        run_id = str(self.record["run_id"])
        last = run_id.rpartition("-")[2]
        own = run_id[:8].isdecimal() and last.isalnum()
        return f"{self.impl} {last}" if own else run_id.removeprefix("published-")

    @property
    def source(self) -> Record:
        """The document of an imported record, with null for what the record leaves out."""
        known = record.schema()["properties"]["source"]["properties"]
        return dict.fromkeys(known) | {"figures": []} | self.record.get("source", {})

    @property
    def commit(self) -> str:
        """The commit as a label, marked when the checkout held more."""
        environment = self.record["environment"]
        commit = str(environment["git_commit"] or "?")[:7]
        return f"{commit}+" if environment["git_dirty"] else commit


def load(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Reads all records at or below the paths, and lists of them; a warning for each bad one.

    Raises UserError for a path that is not there.
    """
    lists = [path for path in paths if path.name == PREFLIGHT_FILE and path.is_file()]
    found, warnings = finding.load_all(path for path in paths if path not in lists)
    for path in paths:
        lists += [
            Path(folder, PREFLIGHT_FILE)
            for folder, _, files in os.walk(path)
            if PREFLIGHT_FILE in files
        ]
    runs: list[Run] = []
    seen: set[Path] = set()
    names: set[str] = set()

    def add(content: Record, folder: Path | None) -> None:
        identity = content["run_id"]
        while (page := f"runs/{words.file_name(identity)}") in names:
            identity += "'"
        names.add(page)
        runs.append(Run(content, page, folder))

    for one in found:
        place = one.path.resolve()
        if place not in seen:
            add(one.record, one.path.parent)
        seen.add(place)
    for path in lists:
        place = path.resolve()
        if place not in seen:
            for content in _read_list(path, warnings):
                add(content, None)
        seen.add(place)
    return runs, warnings


def _read_list(path: Path, warnings: list[str]) -> list[Record]:
    """The good records of a list; a warning for the others."""
    try:
        listed = json.loads(inputs.content(path, _LARGEST))
        if not isinstance(listed, list):
            raise RecordError("holds no list of records")
    except (OSError, ValueError, RecursionError, RecordError) as error:
        warnings.append(f"skipped {RecordError(f'{path}: not a list of records: {error}')}")
        return []
    good = []
    for number, content in enumerate(listed):
        try:
            record.validate(content)
            good.append(content)
        except RecordError as error:
            warnings.append(f"skipped {RecordError(f'{path}, entry {number}: {error}')}")
    return good
