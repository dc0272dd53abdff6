"""A record's figures as plain numbers."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.records.record import Record, at

# The first steps of a process, which no `step_seconds` counts: the first one, which a record has
# apart, and two in which the device comes to its pace.
WARM_UP_STEPS = 3
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

    The first step of the last start, its warm-up, the steps after a save or an evaluation and those
    in which the process was stopped are none; what remains are the last ones, as many as the record
    says. In a log that does not say, all but the first.
    """
    evaluated = sorted(entry["step"] for entry in record.get("evals", ()))
    steps = []
    before = -1
    for entry in record["steps"]:
        follows_evaluation = bisect_left(evaluated, before) < bisect_left(evaluated, entry["step"])
        before = entry["step"]
        seconds = number(entry["step_seconds"])
        counts = not (entry["after_save"] or entry.get("stopped") or follows_evaluation)
        if seconds is not None and counts:
            steps.append(seconds)
    count = record["timing"]["step_seconds"]["samples"]
    if count is None:
        count = max(0, len(steps) - WARM_UP_STEPS)
    return steps[max(0, len(steps) - int(count)) :]


def summarise(samples: Sequence[float]) -> dict[str, Any]:
    """Returns {median, p10, p90, samples}: seconds, None without any, and their count."""
    ordered = sorted(samples)
    quantiles = {"median": 0.5, "p10": 0.1, "p90": 0.9}
    values = {name: _quantile(ordered, share) for name, share in quantiles.items()}
    return {**values, "samples": len(ordered)}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Returns a quantile, interpolated between the two nearest values (numpy's default)."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


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
