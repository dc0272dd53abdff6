"""The folder of one run: its record, its configuration, and what is written while it goes on."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from harness import record as record_module
from harness.errors import UserError
from harness.record import Record


class RunFolder:
    """results/<run_id>; only process 0 writes into it, but for each process's own log."""

    def __init__(self, results: Path, run_id: str, process: int = 0, resume: bool = False) -> None:
        """Makes the folder.

        Raises UserError when it cannot be written, or already holds a run that is not resumed.
        """
        self.path = results / run_id
        self._is_primary = process == 0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._is_primary and self.record_path.exists() and not resume:
                raise UserError(f"--run-id {run_id}: {self.path} already holds a run")
            name = "log.txt" if self._is_primary else f"log.{process}.txt"
            self.log: TextIO = (self.path / name).open("a", encoding="utf-8")
            self._metrics = (self.path / "metrics.jsonl").open("a") if self._is_primary else None
            if self._metrics is not None and self._metrics.tell():
                self._metrics.write("\n")  # ends the line of a run that was killed in it
        except OSError as error:
            raise UserError(
                f"--results-dir {results}: {error.strerror}: {error.filename}"
            ) from None

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path / "record.json"

    def write_config(self, text: str) -> None:
        """Keeps the flattened case."""
        if self._is_primary:
            (self.path / "config.txt").write_text(text, encoding="utf-8")

    def write_status(self, state: str, step: int | None, exit_code: int | None = None) -> None:
        """Replaces status.json: the state, the last finished step, the exit code once there."""
        if self._is_primary:
            temporary = self.path / ".status.json.tmp"
            temporary.write_text(
                json.dumps({"state": state, "step": step, "exit_code": exit_code}) + "\n"
            )
            temporary.replace(self.path / "status.json")

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Adds a step's line to metrics.jsonl, at once."""
        if self._metrics is not None:
            self._metrics.write(json.dumps(entry, allow_nan=False) + "\n")
            self._metrics.flush()

    def read_metrics(self) -> list[dict[str, Any]]:
        """The last line of each step in metrics.jsonl; one torn by a killed run is left out."""
        entries = {}
        for line in (self.path / "metrics.jsonl").read_text().splitlines():
            try:
                entry = json.loads(line)
                entries[entry["step"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
        return [entries[step] for step in sorted(entries)]

    def write_record(self, record: Record) -> None:
        """Writes the record, whole or not at all."""
        if self._is_primary:
            record_module.write(self.record_path, record)

    def close(self) -> None:
        """Closes the files."""
        self.log.close()
        if self._metrics is not None:
            self._metrics.close()


def check_writable(results: Path) -> None:
    """Raises UserError unless run folders can be made below `results`."""
    existing = next(path for path in (results, *results.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--results-dir {results}: {existing} is not a folder one can write to")
