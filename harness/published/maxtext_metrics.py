"""The file of metrics that MaxText writes: a JSON object for each step."""

import json
import re
from typing import Any

from harness.published import metric_rows
from harness.published.document import Document, Imported
from harness.published.metric_rows import Row

KIND = "MaxText metrics file"
SIGN = re.compile(r'(?m)^\{[^\n]{0,4000}?"(?:learning/loss|perf/step_time_seconds)": ')

_MOST_STEPS = 10**9


def read(document: Document) -> Imported:
    """The record of such a file; raises UserError where it holds no step."""
    rows, unread = [], 0
    lines = document.text.split("\n")
    for line in lines:
        entry = _parsed(line)
        if entry is not None:
            rows.append(entry)
        elif line.strip():
            unread += 1
    notes = []
    if unread and _parsed(lines[-1]) is None and lines[-1].strip():
        notes.append("the file ends inside a line, which is left out")
        unread -= 1
    if unread:
        notes.append(f"lines that hold no metrics, left out: {unread}")
    return metric_rows.read(document, KIND, rows, notes)


def _parsed(line: str) -> Row | None:
    """The numbers of a line, None for one that is no JSON object with a step."""
    try:
        entry: Any = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    values = {key: _number(value) for key, value in entry.items()}
    step = values.pop("step", None)
    if step is None or not 0 <= step < _MOST_STEPS or step != int(step):
        return None
    return Row(int(step), {key: value for key, value in values.items() if value is not None})


def _number(value: Any) -> float | None:
    """A number, not finite ones included, that a float can hold."""
    if type(value) is float or (type(value) is int and abs(value) < 2**63):
        return float(value)
    return None
