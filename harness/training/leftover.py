"""What a run of a name has left, put together from whatever of its files is still good."""

import contextlib
from typing import Any, NamedTuple

from harness.cases import reading
from harness.cases.settings import is_free
from harness.records import history, sealing, storage
from harness.records import record as record_module
from harness.records.ownership import Owner
from harness.records.record import Record, RecordError
from harness.records.run_folder import KILLED, earlier_record, set_aside
from harness.saving import restoring

CHECKPOINTS = "checkpoints"  # in a run's folder, unless its case names another one
_LARGEST_CONFIG = 2**20  # bytes
# What a checkpoint tells of the run that saved it, beside its case.
ABOUT = ("run_id", "impl", "size", "recipe", "init", "nnx_state", "case", "environment")


class Left(NamedTuple):
    """What goes on, or is complete.

    faults: what was damaged, a line each; begun: the first step that the run ever trained.
    """

    record: Record
    faults: list[str]
    begun: int


def find(results: Any, run_id: str, owner: Owner) -> Left | None:
    """What the run has left, None for nothing; it is taken over unless it is complete.

    Where the record is damaged or gone, the newest checkpoint says what was run. Raises UserError
    where another process writes the run, and RecordError for a bad record without checkpoint.
    """
    home = results / run_id
    with contextlib.suppress(RecordError):
        record = earlier_record(results, run_id)
        if record is not None and record["status"] == "completed":
            return Left(record, [], 0)
    owner.take(home)
    try:
        record = earlier_record(results, run_id)
        if record is not None:
            return _completed(record, [], home)
        problem: RecordError | None = None
    except RecordError as error:
        problem = error
    rebuilt = _rebuilt(home, run_id)
    if rebuilt is not None:
        set_aside(results, run_id)
        fault = "record.json is gone" if problem is None else f"{problem}; kept as record.json.bad"
        return _completed(rebuilt, [f"{fault}: made again from the newest checkpoint"], home)
    if problem is not None:
        raise RecordError(
            f"{problem}; no checkpoint tells what was run: the command that began it, with another"
            " --run-id, begins anew"
        )
    return None


def _completed(record: Record, faults: list[str], home: Any) -> Left:
    with storage.errors_told(home):
        found, begun = history.complete(record, home)
        fault = _config_fault(_config(home), record)
    found += [] if fault is None else [f"config.txt: {fault}"]
    return Left(record, [*faults, *found], begun)


def _rebuilt(home: Any, run_id: str) -> Record | None:
    """A record of what the newest checkpoint tells of the run; None where none does."""
    about = restoring.about(_checkpoints(home))
    if about is None or about["run_id"] != run_id or not {*ABOUT} <= about.keys():
        return None
    record = record_module.blank(run_id, "failed")
    record |= {name: about[name] for name in ABOUT}
    return record | {"error": KILLED, "nonfinite_steps": 0}


def _config(home: Any) -> bytes | None:
    """What config.txt holds: none of it where it is too large to be one, None without one."""
    path = home / "config.txt"
    try:
        return storage.content(path, _LARGEST_CONFIG) if path.exists() else None
    except OSError:
        return b""


def _config_fault(config: bytes | None, record: Record) -> str | None:
    """What is wrong with what config.txt holds."""
    if config is None:
        return "is gone"
    try:
        told = sealing.opened_text(config)
    except sealing.Broken as error:
        return str(error)
    # A start with other steps or saves may have been killed before it wrote its record.
    if _experiment(told) != _experiment(reading.lines(record["case"]["config"])):
        return "is not the case of record.json, which counts"
    return None


def _experiment(config: str) -> list[str]:
    """The lines of a flattened case that stay as they are when its run goes on."""
    return [line for line in config.splitlines() if not is_free(line.partition(": ")[0])]


def _checkpoints(home: Any) -> Any:
    """Where the run's checkpoints lie: in its folder, or as its case says."""
    key = "checkpoint.directory: "
    lines = (_config(home) or b"").decode(errors="replace").splitlines()
    told = [line.removeprefix(key) for line in lines if line.startswith(key)]
    return told[0] if told and told[0] != "null" else home / CHECKPOINTS
