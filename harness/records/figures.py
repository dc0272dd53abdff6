"""A record's figures as plain numbers, and its texts as harmless ones."""

from bisect import bisect_left
from typing import Any

import numpy as np

from harness.records.record import Record, at

_WARM_UP_STEPS = 3  # of a run whose record does not count its samples
_BEYOND_MEASUREMENT = 1e100  # JSON has integers of any length; sums of these must stay finite


def number(value: Any) -> float | None:
    """A number of a record as a float; None for null, and for what nothing measures."""
    if value is None or abs(value) > _BEYOND_MEASUREMENT:
        return None
    return float(value)


def figure(record: Record, path: str) -> float | None:
    """The number at a dotted path, such as timing.compile_seconds."""
    return number(at(record, path))


def step_samples(record: Record) -> list[float]:
    """The seconds of the steps that the record's `step_seconds` counts.

    The first step of the last start, its warm-up and the steps after a save or an evaluation are
    none; what remains are the last ones, as many as the record says. In a log that does not say,
    all but three.
    """
    evaluated = sorted(entry["step"] for entry in record.get("evals", ()))
    steps = []
    before = -1
    for entry in record["steps"]:
        follows_evaluation = bisect_left(evaluated, before) < bisect_left(evaluated, entry["step"])
        before = entry["step"]
        seconds = number(entry["step_seconds"])
        if seconds is not None and not entry["after_save"] and not follows_evaluation:
            steps.append(seconds)
    count = record["timing"]["step_seconds"]["samples"]
    if count is None:
        count = max(0, len(steps) - _WARM_UP_STEPS)
    return steps[max(0, len(steps) - int(count)) :]


def step_seconds(record: Record) -> float | None:
    """The median step, as the record has it or, in a log, as its steps have it."""
    median = figure(record, "timing.step_seconds.median")
    samples = step_samples(record)
    return float(np.median(samples)) if median is None and samples else median


def last_loss(record: Record) -> float | None:
    """The loss of the last step."""
    return number(record["steps"][-1]["loss"]) if record["steps"] else None


def checkpoint_stall(record: Record) -> float | None:
    """Seconds that training stood still for all saves; None without saves."""
    stalls = [number(save["blocking_seconds"]) for save in record["checkpoint"]["saves"]]
    known = [stall for stall in stalls if stall is not None]
    return sum(known) if known else None


def safe(text: str, longest: int = 100) -> str:
    """A text from a record on one line, without control characters, and not too long."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
