"""What a run has left so far, put together from its record and its journals."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records import journal, sealing, storage
from harness.records import record as record_module
from harness.records.journal import Lines
from harness.records.record import Part, Record
from harness.terminal.text import counted

METRICS, EVALUATIONS, SAVES = JOURNALS = "metrics.jsonl", "evals.jsonl", "saves.jsonl"
STATUS = "status.json"
_LARGEST_STATUS = 2**16  # bytes
_KEPT = ("config.txt", "names.txt", "program.txt.gz", *JOURNALS)  # by their sha256
# Between two times that a step was trained, or a state evaluated.
_MAY_DIFFER = ("step_seconds", "after_save", "after_eval", "stopped", "seconds")
_Entries = Sequence[dict[str, Any]]


def complete(record: Record, home: Any) -> tuple[list[str], int]:
    """Adds to a run's record what its journals know beyond it.

    A step's newest word is its last line in metrics.jsonl, and where that is damaged or gone the
    record's; of older versions, whose lines have no checksums, the record's. Evaluations alike.
    Returns what is damaged, a line each, and the first step that the run has trained; 0 where
    nothing tells.
    """
    faults: list[str] = []
    metrics, evaluations, saves = (journal.read(home / name) for name in JOURNALS)
    told = bool(record["steps"])
    record["steps"] = _merged("steps", record["steps"], metrics, METRICS, faults)
    evals = _merged("evals", record.get("evals", ()), evaluations, EVALUATIONS, faults)
    if evals:
        record["evals"] = evals

    known = record["checkpoint"]["saves"]
    costs = _fitting("saves", saves, SAVES, faults)
    lost = [one["step"] for one in known if one not in costs] if metrics.link else []
    if lost:
        faults.append(f"{SAVES}: lacks {_numbers(lost)}, taken from record.json")
    record["checkpoint"]["saves"] = [*known, *(one for one in costs if one not in known)]

    status, broken = _status(home / STATUS)
    last = max((one["step"] for one in record["steps"]), default=0)
    if metrics.link and not storage.is_remote(home):  # there the two may be of different moments
        faults += broken
        if (status.get("step") or 0) > last:
            faults.append(f"{METRICS}: ends before step {status['step']}, where {STATUS} is")
    begun = min((one["step"] for one in record["steps"]), default=0)
    return faults, begun if told or metrics.is_whole else 0


def _merged(
    part: Part, told: _Entries, lines: Lines, name: str, faults: list[str]
) -> list[dict[str, Any]]:
    """What the record and a journal know of each step."""
    newest = {one["step"]: one for one in _fitting(part, lines, name, faults)}
    own = {one["step"]: one for one in told}
    if own.keys() - newest.keys():
        lost = _numbers(own.keys() - newest.keys())
        faults.append(f"{name}: lacks {lost}, taken from record.json")
    if not lines.is_sealed:
        differing = [step for step in own.keys() & newest.keys()
                     if _lasting(own[step]) != _lasting(newest[step])]  # fmt: skip
        if differing:
            which = _numbers(differing)
            faults.append(f"{name}: differs from record.json in {which}: not taken")
    merged = own | newest if lines.is_sealed else newest | own
    return [merged[step] for step in sorted(merged)]


def lacking(entries: Iterable[Mapping[str, Any]], wanted: Iterable[int]) -> str | None:
    """The wanted steps of which there is no entry; None where there are all."""
    lost = {*wanted} - {entry["step"] for entry in entries}
    return _numbers(lost) if lost else None


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file that a run leaves beside its record, and does not change later."""
    present = (folder / name for name in _KEPT)
    return {path.name: _sha256(path) for path in present if path.is_file()}


def changed(record: Record, folder: Path) -> list[str]:
    """What has become of the files beside a run's record since it ended; empty where all is well.

    A record that was copied without any of them is well, too.
    """
    kept: Mapping[str, str] = record.get("files", {})
    there = [name for name in kept if (folder / name).is_file()]
    faults = [f"{name}: is gone" for name in kept if there and name not in there]
    faults += [
        f"{name}: has changed since the run ended"
        for name in there
        if _sha256(folder / name) != kept[name]
    ]
    return [*faults, *(_status(folder / STATUS)[1] if there else ())]


def _status(path: Any) -> tuple[dict[str, Any], list[str]]:
    """What status.json tells, and what is wrong with it."""
    if not path.is_file():
        return {}, [f"{STATUS}: is gone"]
    try:
        return sealing.opened(sealing.parse(storage.content(path, _LARGEST_STATUS))), []
    except (OSError, ValueError, RecursionError):
        return {}, [f"{STATUS}: cannot be read"]
    except sealing.Broken as error:
        return {}, [f"{STATUS}: {error}"]


def _fitting(part: Part, lines: Lines, name: str, faults: list[str]) -> list[dict[str, Any]]:
    """The lines that a record may hold."""
    faults += [f"{name}: {fault}" for fault in lines.faults]
    fitting = [entry for entry in lines.entries if record_module.fits(part, entry)]
    if len(fitting) < len(lines.entries):
        count = len(lines.entries) - len(fitting)
        faults.append(f"{name}: holds {counted(count, 'line')} that a record cannot")
    return fitting


def _lasting(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a step gives however often it is trained."""
    return {key: value for key, value in entry.items() if key not in _MAY_DIFFER}


def _numbers(steps: Iterable[int]) -> str:
    """Such as "steps 3, 5 to 9"."""
    ranges: list[list[int]] = []
    for step in sorted(steps):
        if ranges and ranges[-1][1] == step - 1:
            ranges[-1][1] = step
        else:
            ranges.append([step, step])
    told = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in ranges[:5])
    noun = "step" if told.isdecimal() else "steps"
    return f"{noun} {told}" + (" and others" if len(ranges) > 5 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
