"""The folder of one run: its record, its configuration, and what is written while it goes on."""

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from harness.records import atomic, history, sealing, storage
from harness.records import record as record_module
from harness.records.journal import Journal
from harness.records.ownership import Owner
from harness.records.record import Record
from harness.terminal.errors import UserError

KILLED = "killed before it could end"  # a record's error until its run has ended


class RunFolder:
    """results/<run_id>; only process 0 writes into it, but for each process's own log.

    Where `results` lies in a bucket, each process writes into a temporary folder, `path`, of which
    a `storage.Mirror` keeps a copy in `home`; else both are the same folder.
    """

    def __init__(
        self,
        results: Any,
        run_id: str,
        owner: Owner,
        process: int = 0,
        resume: bool = False,
    ) -> None:
        """Makes the folder; nothing is written there once `owner` has lost it.

        Raises UserError when it cannot be written, or already holds a run that is not resumed.
        """
        self.home = results / run_id
        self._is_primary = process == 0
        self._owner = owner
        self._journals: dict[str, Journal] = {}
        self._mirror: storage.Mirror | None = None
        name = "log.txt" if self._is_primary else f"log.{process}.txt"
        with storage.errors_told(f"--results-dir {results}"):
            if self._is_primary and self.record_path.exists() and not resume:
                raise UserError(f"--run-id {run_id}: {self.home} already holds a run")
            if storage.is_remote(self.home):
                self.path = Path(tempfile.mkdtemp(prefix="harness-"))
                self._fetch([name, *(history.JOURNALS if self._is_primary else ())])
                self._mirror = storage.Mirror(self.path, self.home, owner.check)
            else:
                self.path = self.home
                self.path.mkdir(parents=True, exist_ok=True)
            self.log: TextIO = (self.path / name).open("a", encoding="utf-8")
        self.sync()

    @property
    def record_path(self) -> Any:
        """Where the record lies."""
        return self.home / "record.json"

    def write_config(self, text: str) -> None:
        """Keeps the flattened case, sealed."""
        self._write("config.txt", sealing.sealed_text(text).encode())

    def write_names(self, names: Iterable[str]) -> None:
        """Keeps whose array is whose, of a pair that was matched."""
        self._write("names.txt", "".join(f"{line}\n" for line in names).encode())

    def write_program(self, text: str) -> None:
        """Keeps the optimised program, for a comparison to name what differs in it."""
        self._write("program.txt.gz", gzip.compress(text.encode(), 6, mtime=0))

    def write_status(self, state: str, step: int | None, exit_code: int | None = None) -> None:
        """Replaces status.json: the state, the last finished step, the exit code once there."""
        if self._is_primary:
            status = sealing.sealed({"state": state, "step": step, "exit_code": exit_code})
            path = self.path / history.STATUS
            with storage.errors_told(path):
                # After every step: training must not wait for a disk.
                atomic.write(path, json.dumps(status) + "\n", to_disk=False)

    def append_metrics(self, entry: Mapping[str, Any]) -> None:
        """Adds a step's line to metrics.jsonl, at once."""
        self._append(history.METRICS, entry)

    def append_evaluation(self, entry: Mapping[str, Any]) -> None:
        """Adds an evaluation's line to evals.jsonl, at once."""
        self._append(history.EVALUATIONS, entry)

    def append_save(self, entry: Mapping[str, Any]) -> None:
        """Adds to saves.jsonl what a save has cost, once it is committed."""
        self._append(history.SAVES, entry)

    def _write(self, name: str, content: bytes) -> None:
        if self._is_primary:
            with storage.errors_told(self.path / name):
                atomic.write(self.path / name, content)

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        if self._is_primary:
            with storage.errors_told(self.path / name):
                if name not in self._journals:
                    self._journals[name] = Journal(self.path / name)
                self._journals[name].append(entry)

    def digests(self) -> dict[str, str]:
        """The record's `files`; to be asked once nothing more is written but the record."""
        return history.digests(self.path)

    def write_record(self, record: Record) -> None:
        """Writes the record, whole or not at all."""
        self._owner.check()
        if self._is_primary:
            record_module.write(self.path / "record.json", record)

    def sync(self) -> None:
        """Waits until a bucket holds all that was written.

        Raises UserError when that fails, or another process has taken the run over.
        """
        self._owner.check()
        if self._mirror is not None:
            self._mirror.sync()

    def close(self) -> None:
        """Closes the files; raises UserError when the last of them cannot be kept."""
        with storage.errors_told(self.path), ExitStack() as opened:
            opened.callback(self.log.close)
            for journal in self._journals.values():
                opened.callback(journal.close)
        if self._mirror is not None:
            self._mirror.close()
            shutil.rmtree(self.path, ignore_errors=True)

    def _fetch(self, names: list[str]) -> None:
        """Brings what an earlier attempt left, to go on writing it."""
        for name in names:
            kept = self.home / name
            if kept.exists():
                (self.path / name).write_bytes(kept.read_bytes())


def earlier_record(results: Any, run_id: str) -> Record | None:
    """The record of the run of this name, None without a run; RecordError for a bad record."""
    path = results / run_id / "record.json"
    with storage.errors_told(path):
        return record_module.read(storage.local_copy(path)) if path.exists() else None


def set_aside(results: Any, run_id: str) -> None:
    """Keeps a copy of a record that cannot be read, which is about to be written anew."""
    path = results / run_id / "record.json"
    with storage.errors_told(path):
        if path.exists():
            (path.parent / f"{path.name}.bad").write_bytes(path.read_bytes())


def replace_record(results: Any, record: Record) -> None:
    """Writes the record of a run that has ended anew, whole or not at all."""
    path = results / record["run_id"] / "record.json"
    if not storage.is_remote(path):
        record_module.write(path, record)
        return
    with storage.errors_told(path), tempfile.TemporaryDirectory(prefix="harness-") as folder:
        record_module.write(Path(folder) / path.name, record)
        path.write_bytes((Path(folder) / path.name).read_bytes())


def not_there(option: str, results: Any, run_id: str) -> UserError:
    """What to say of a run that an option names and that has left nothing."""
    return UserError(f"{option} {run_id}: {results / run_id / 'record.json'} is not there")


def complete(option: str, results: Any, run_id: str) -> Record:
    """The record of a run that an option names; UserError unless it is there and complete."""
    record_module.check_run_id(run_id)
    found = earlier_record(results, run_id)
    if found is None:
        raise not_there(option, results, run_id)
    if found["status"] != "completed":
        raise UserError(f"{option} {run_id}: the run is {found['status']}, not completed")
    return found


def check_writable(results: Any) -> None:
    """Raises UserError unless run folders can be made below `results`; a bucket tells later."""
    if storage.is_remote(results):
        return
    existing = next(path for path in (results, *results.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--results-dir {results}: {existing} is not a folder one can write to")
