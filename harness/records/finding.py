"""Finds records: of one run, of repeats, or all below a folder; bad ones are told and skipped."""

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.records import history
from harness.records import record as record_module
from harness.records.record import Record, RecordError
from harness.terminal.errors import UserError
from harness.terminal.text import nearest, safe

_RECORD = "record.json"


@dataclass(frozen=True)
class Found:
    """A record and where it lies."""

    path: Path
    record: Record


def load_all(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Found], list[str]]:
    """Reads every record at or below the paths: files, runs' folders, folders of these.

    Returns them in the order of their paths, and a warning for each file that is no good record:
    truncated, foreign, of a later version, or changed by hand; also for what is damaged beside a
    good one. Raises UserError for a path that is not there.
    """
    found, warnings = [], []
    with _without_collector():
        for path in paths:
            for file in _record_files(Path(path)):
                try:
                    found.append(load(file))
                    warnings += _damaged(found[-1])
                except RecordError as error:
                    warnings.append(f"skipped {error}")
    return found, warnings


def load(path: Path) -> Found:
    """Reads one record; raises RecordError for a bad one, with what makes it again."""
    try:
        record = record_module.read(path)
    except RecordError as error:
        if not (path.parent / history.METRICS).is_file():
            raise
        raise RecordError(
            f"{error}; --resume {path.parent.name} makes it again from the rest"
        ) from None
    return Found(path, record)


def find(reference: str, results: Path, twins: str | None = None) -> tuple[list[Found], list[str]]:
    """The runs that a reference names, and warnings: a single run, or completed repeats of one.

    A reference is a record file, a run's folder or id, a folder of repeats, the id given to
    --run-id with --repeats, or the latest run of a case as case:impl, of a pair of `twins` where
    that is not the project's own; folder:impl takes one implementation's repeats. Raises UserError
    for one that names no run, or runs that differ in more than chance, and RecordError for one bad
    record.
    """
    folder = Path(reference)
    one = next((place / _RECORD for place in (folder, results / reference) if _is_run(place)), None)
    if one is not None or os.path.isfile(reference):
        single = load(one or folder)
        return [single], _damaged(single)
    if os.path.isdir(reference):
        return _repeats(reference, *load_all([folder]))
    name, _, impl = reference.rpartition(":")
    if impl.isidentifier() and name:
        if os.path.isdir(name):
            found, warnings = load_all([name])
            return _repeats(reference, [one for one in found if _impl(one) == impl], warnings)
        return _latest(reference, (name, impl, twins), results)
    numbered = [path for path in _runs(results) if _is_repeat(path.parent.name, reference)]
    if numbered:
        return _repeats(reference, *load_all(numbered))
    hint = nearest(reference, (path.parent.name for path in _runs(results)), likeness=0.6)
    raise UserError(
        f"{reference!r}: no such run, file or folder, and no run of {results}{hint}; may be a run"
        " id, record file, run's folder, folder of repeats, or case:impl for the latest"
    )


def _latest(
    reference: str, wanted: tuple[str, str, str | None], results: Path
) -> tuple[list[Found], list[str]]:
    """The last completed run of a case, an implementation, and the twins that it belongs to."""
    found, warnings = load_all([results] if results.is_dir() else [])
    own = [
        one
        for one in found
        if wanted in (_about(one), _as_shown(one))
        and one.record["status"] not in ("preflight", "imported")
    ]
    own.sort(key=lambda one: (one.record["environment"]["time"] or "", one.record["run_id"]))
    complete = [one for one in own if one.record["status"] == "completed"]
    if not complete:
        of = "" if wanted[2] is None else f" of --twins {wanted[2]}"
        known = sorted({_told(one) for one in found})
        rest = f"; there are runs of {', '.join(known)}" if known else ""
        raise UserError(f"{reference!r}: {results} has no completed run of that case{of}{rest}")
    later = own[own.index(complete[-1]) + 1 :]
    warnings += [f"{_names(later)}: later, but not completed"] if later else []
    return [complete[-1]], warnings


def _repeats(
    reference: str, found: Sequence[Found], warnings: list[str]
) -> tuple[list[Found], list[str]]:
    """The completed ones of several runs, which must be one experiment's."""
    ended = [one for one in found if one.record["status"] in ("completed", "imported")]
    if not ended:
        raise UserError(f"{reference!r}: holds no record of a completed run")
    left_out = [one for one in found if one not in ended]
    if left_out:
        warnings = [*warnings, f"left out, as not completed: {_names(left_out)}"]
    for what, values in (
        ("implementations", {str(_impl(one)) for one in ended}),
        ("cases", {safe(str(record_module.case_name(one.record))) for one in ended}),
        ("case.hash", {str(one.record["case"]["hash"])[:12] for one in ended}),
        ("devices", {_devices(one) for one in ended}),
    ):
        if len(values) > 1:
            raise UserError(
                f"{reference!r}: its runs are not repeats of one another, they differ in {what}:"
                f" {', '.join(sorted(values))}; name one run, or FOLDER:impl"
            )
    return ended, warnings


def _record_files(path: Path) -> Iterator[Path]:
    """The record files at or below a path; what lies in a run's folder is its own affair."""
    if not os.path.exists(path):
        raise UserError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        if _RECORD in files or _is_run(Path(folder)):
            folders.clear()
            yield Path(folder, _RECORD)


def _is_run(folder: Path) -> bool:
    """Whether a run lies there, be it without its record."""
    names = [_RECORD], [history.METRICS, history.STATUS]
    return any(all(os.path.isfile(folder / name) for name in some) for some in names)


def _damaged(found: Found) -> list[str]:
    folder = found.path.parent
    return [f"{folder}: {fault}" for fault in history.changed(found.record, folder)]


def _runs(results: Path) -> list[Path]:
    """Where the records of the runs in a results folder would lie."""
    return sorted(results.glob("*/record.json")) if results.is_dir() else []


def _is_repeat(run_id: str, name: str) -> bool:
    base, _, number = run_id.rpartition("-")
    return base == name and number.isdecimal()


def _impl(found: Found) -> str | None:
    impl: str | None = found.record["impl"]
    return impl


def _about(found: Found) -> tuple[str | None, str | None, str | None]:
    """Case, implementation and twins of a run."""
    return found.record["case"]["name"], _impl(found), record_module.twins(found.record)


def _as_shown(found: Found) -> tuple[str | None, str | None, str | None]:
    """Likewise, by what a reader calls the case; a pair's module needs no --twins beside it."""
    case, impl, twins = _about(found)
    shown = record_module.case_name(found.record)
    return shown, impl, twins if shown == case else None


def _told(found: Found) -> str:
    case, impl, twins = (None if one is None else safe(str(one)) for one in _as_shown(found))
    return f"{case}:{impl}" if twins is None else f"{case}:{impl} with --twins {twins}"


def _devices(found: Found) -> str:
    environment = found.record["environment"]
    return f"{environment['device_count']} x {safe(str(environment['device_kind']))}"


def _names(found: Sequence[Found]) -> str:
    return ", ".join(one.record["run_id"] for one in found)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Reading makes millions of objects that live on: looking for garbage is wasted meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
