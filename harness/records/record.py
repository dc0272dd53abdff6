"""The record of a run: a JSON file that must fit record.schema.json to be read or written."""

import functools
import json
import os
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness.cases import reading
from harness.records import atomic, sealing
from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import safe

SCHEMA_VERSION = 2

Record = dict[str, Any]
Part = Literal["steps", "evals", "saves"]
Status = Literal["completed", "failed", "preempted", "preflight", "imported"]

_SCHEMA_PATH = Path(__file__).with_name("record.schema.json")
_SUFFIX_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like something else
_LONGEST_REASON = 200
_LARGEST = 2**28  # bytes of a file: a million steps
_WHERE_NOT_TOLD = {"nnx_state": "dict"}  # of keys that older records lack


class RecordError(UserError):
    """A record that cannot be read, written or believed."""


def new_run_id(case_name: str, impl: str | None = None, now: datetime | None = None) -> str:
    """Returns a run id that sorts by time, tells the case and differs from every other one.

    Such as `20261103-142233-03_dropout-nnx-e6fds`, in UTC; also a legal folder name.
    """
    time = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%d-%H%M%S")
    case = re.sub(r"[^A-Za-z0-9._-]+", "-", case_name)[:60]
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
    return "-".join(part for part in (time, case, impl, suffix) if part)


def check_run_id(run_id: str) -> None:
    """Raises RecordError unless `run_id` may serve as the name of a run and of its folder."""
    pattern = schema()["properties"]["run_id"]["pattern"]
    if not re.fullmatch(pattern, run_id):
        raise RecordError(
            f"run id {run_id!r}: must be 1 to 100 letters, digits, '.', '_' or '-', "
            "the first a letter or digit"
        )


def blank(
    run_id: str,
    status: Status,
    *,
    impl: str | None = None,
    size: str | None = None,
    recipe: str | None = None,
    init: str | None = None,
) -> Record:
    """Returns a valid record that knows nothing else: every key present, null or empty."""
    record: Record = _empty(schema())
    record |= {"schema_version": SCHEMA_VERSION, "run_id": run_id, "status": status}
    return record | {"impl": impl, "size": size, "recipe": recipe, "init": init}


def keys(section: str | None = None) -> set[str]:
    """What a record may hold at its top, or in one of its sections."""
    held: dict[str, Any] = schema()["properties"]
    return {*(held if section is None else held[section]["properties"])}


def validate(record: object) -> None:
    """Raises RecordError naming the key and the reason when `record` breaks the schema."""
    if not isinstance(record, dict) or "schema_version" not in record:
        raise RecordError("not a record: no schema_version")
    version = record["schema_version"]
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordError(
            f"schema_version {version} is newer than this program, which reads {SCHEMA_VERSION}"
        )
    fault = _fault(record, detailed=False) and _fault(record, detailed=True)
    if fault is not None:
        raise RecordError(_reason(fault))


def _fault(record: object, detailed: bool) -> str | None:
    import fastjsonschema

    try:
        _validator(detailed)(record)
    except fastjsonschema.JsonSchemaValueException as error:
        return str(error.message)
    return None


def fits(part: Part, entry: object) -> bool:
    """Whether an entry may stand in that list of a record."""
    import fastjsonschema

    try:
        _part_validator(part)(entry)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


def twins(record: Record) -> str | None:
    """The module of the pair that was run, None for the project's own."""
    module: str | None = (record["case"]["config"] or {}).get("twins")
    return module


def case_name(record: Record) -> str | None:
    """What a reader calls the case of a run, None where it has none."""
    name: str | None = record["case"]["name"]
    return None if name is None else reading.shown(name, twins(record))


def at(record: Record, path: str) -> Any:
    """The value at a dotted path, such as timing.compile_seconds."""
    value: Any = _WHERE_NOT_TOLD | record
    for key in path.split("."):
        value = value[key]
    return value


def write(path: str | os.PathLike[str], record: Record) -> None:
    """Writes a valid record so that `path` holds either what it held before or the whole of it.

    Raises RecordError for an invalid record, a number that is not finite (null stands for it) and
    a path that cannot be written.
    """
    try:
        validate(record)
        atomic.write(path, _text(sealing.sealed(record)))
    except (RecordError, ValueError, TypeError) as error:
        raise RecordError(f"{path}: not written: {error}") from None
    except OSError as error:
        raise RecordError(f"{path}: not written: {error.strerror}") from None


def read(path: str | os.PathLike[str]) -> Record:
    """Reads and validates a record; raises RecordError naming the path and what is wrong."""
    try:
        return parse(inputs.content(path, _LARGEST))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None


def parse(content: bytes) -> Record:
    """The record that a file holds; raises RecordError saying what is wrong with it.

    One of an older version carries no checksum.
    """
    try:
        record = sealing.parse(content.decode())
        validate(record)
        if sealing.SEAL in record:
            record = sealing.opened(record)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise RecordError(f"truncated or not JSON, at {where}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a record: {error}") from None
    except sealing.Broken as error:
        raise RecordError(f"{error}: its {sealing.SEAL} does not match what it holds") from None
    from harness.records import sense

    problem = sense.contradiction(record)
    if problem is not None:
        raise RecordError(f"contradicts itself, changed by hand? {problem}")
    return dict(record)


def _text(record: Record) -> str:
    """Returns the record as indented JSON with one line per step."""
    rest = {key: value for key, value in record.items() if key != "steps"}
    steps = [json.dumps(step, allow_nan=False) for step in record["steps"]]
    listed = "[\n    " + ",\n    ".join(steps) + "\n  ]" if steps else "[]"
    return json.dumps(rest, indent=2, allow_nan=False)[:-2] + f',\n  "steps": {listed}\n}}\n'


def _empty(schema: dict[str, Any]) -> Any:
    """Returns the emptiest value of a schema: null where allowed, else every required key."""
    types = schema.get("type", "null")
    if types == "object":
        properties = schema.get("properties", {})
        return {key: _empty(properties[key]) for key in schema.get("required", ())}
    return [] if types == "array" else None


@functools.cache
def schema() -> dict[str, Any]:
    """What a record may hold, and what each of its values means."""
    found: dict[str, Any] = json.loads(_SCHEMA_PATH.read_text(encoding="utf-8"))
    return found


@functools.cache
def _validator(detailed: bool) -> Callable[[object], object]:
    # Imported here because only a process that reads or writes records needs it; the compiled
    # validator checks a thousand steps in a few milliseconds. One that names what is lacking takes
    # three times as long to be compiled.
    import fastjsonschema

    validator: Callable[[object], object] = fastjsonschema.compile(
        schema(), use_default=False, detailed_exceptions=detailed
    )
    return validator


@functools.cache
def _part_validator(part: str) -> Callable[[object], object]:
    import fastjsonschema

    held = schema()["properties"]
    of_saves = held["checkpoint"]["properties"]["saves"]
    items = (of_saves if part == "saves" else held[part])["items"]
    validator: Callable[[object], object] = fastjsonschema.compile(items, use_default=False)
    return validator


def _reason(message: str) -> str:
    """Returns a validator's complaint in our words, shortened where it quotes a foreign file."""
    reason = message.removeprefix("data.").replace("data must", "the record must", 1)
    return safe(reason, _LONGEST_REASON)
