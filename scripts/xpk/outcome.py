"""How a workload ended, by what its run wrote: never by what the cluster says of its pods."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fetching import Left

from harness.records.record import Record, RecordError, parse
from harness.records.run_folder import KILLED
from harness.terminal.text import counted

_SILENT_SECONDS = 600  # a run's log is written to every few seconds, whatever it does


@dataclass(frozen=True)
class Outcome:
    """`state` is complete, running, silent, preempted, failed, damaged, alien or missing."""

    state: str
    detail: str = ""


def judge(workload: Mapping[str, Any], left: Left, chips: int) -> Outcome:
    """What became of a workload."""
    status = _status(left)
    if "record.json" not in left.files:
        if left.files:
            return Outcome("missing", "no record yet, only " + ", ".join(left.files))
        return Outcome("missing", "no result: not started, or ended before harness.run began")
    try:
        record = parse(left.files["record.json"])
    except RecordError as error:
        return Outcome("damaged", f"record.json: {error}")
    expected = (workload["name"], workload["case"], workload["impl"])
    found = (record["run_id"], record["case"]["name"], record["impl"])
    named = zip(("run", "case", "implementation"), expected, found, strict=True)
    differing = [f"{name} {there}" for name, wanted, there in named if wanted != there]
    if differing:
        return Outcome("alien", f"the record there is of {', '.join(differing)}")
    return _of_record(record, status, left.written, chips)


def _of_record(
    record: Record, status: Mapping[str, Any], written: float | None, chips: int
) -> Outcome:
    wanted = record["case"]["config"].get("run.steps", "?")
    steps = f"{len(record['steps'])} of {wanted} steps"
    if record["status"] == "completed":
        return Outcome("complete", f"{steps}{_cost(record, chips)}{_restarts(record)}")
    if record["status"] == "preempted":
        return Outcome("preempted", f"{record['error']}; {steps}: goes on when it is restarted")
    if record["error"] != KILLED:
        return Outcome("failed", f"{record['error']}; {steps}")
    state = f"{status.get('state', 'starting')}, step {status.get('step')}{_restarts(record)}"
    silence = time.time() - (written or 0)
    if silence > _SILENT_SECONDS:
        return Outcome("silent", f"{state}; no word for {silence / 60:.0f} min: killed, or hangs")
    return Outcome("running", state)


def _status(left: Left) -> dict[str, Any]:
    try:
        return dict(json.loads(left.files["status.json"]))
    except KeyError:
        return {}
    except (ValueError, TypeError):
        return {"state": "status.json is damaged"}


def _cost(record: Record, chips: int) -> str:
    """All attempts' time on all chips; not known where one was killed."""
    attempts = [*record["attempts"], {"wall_seconds": record["timing"]["wall_seconds"]}]
    seconds = [attempt["wall_seconds"] for attempt in attempts]
    if None in seconds:
        return ""
    return f", {sum(seconds) * chips / 60:.1f} chip-minutes"


def _restarts(record: Record) -> str:
    number = len(record["attempts"])
    return f", restarted {counted(number, 'time')}" if number else ""
