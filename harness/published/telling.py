"""What the readers of logs share: steps, evaluations and times put into a record."""

import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

from harness.published import attempts
from harness.published.attempts import Steps, Told
from harness.published.document import amount
from harness.records.figures import summarise
from harness.records.record import Record


def whole(value: float | None) -> float | int | None:
    """An amount that was printed with a point, as a whole number where it is one."""
    value = amount(value)
    return int(value) if value is not None and value == int(value) else value


def median(samples: Sequence[Told], *names: str) -> float | None:
    """Of the rates that the samples' own lines tell."""
    values = [amount(one.value(*names)) for one in samples]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def following(told: Sequence[Told], events: Sequence[int]) -> set[int]:
    """The steps of the lines right after each event, which is given by the step that it follows."""
    ordered, found = sorted(events), set()
    for before, one in pairwise(told):
        place = bisect_left(ordered, before.step)
        if place < len(ordered) and ordered[place] < one.step:
            found.add(one.step)
    return found


def add_evaluations(
    record: Record, told: Sequence[Told], evaluations: Sequence[Mapping[str, Any]]
) -> None:
    """Puts evaluations into the record, where there are any, and flags the steps after them."""
    if not evaluations:
        return
    record["evals"] = list(evaluations)
    after = following(told, [entry["step"] for entry in evaluations])
    for step in record["steps"]:
        if step["step"] in after:
            step["after_eval"] = True


def add_rounding(record: Record, told: Sequence[Told], names: Mapping[str, str]) -> None:
    """Says how exactly each of these figures of a step is printed; the lines' names by ours."""
    rounding = {}
    for key, name in names.items():
        known = [error for one in told if (error := one.half_unit(name)) is not None]
        if known and max(known) < float("inf"):
            rounding[key] = max(known)
    record["source"]["rounding"] = rounding


def add_step_seconds(record: Record, steps: Steps, others: Set[int] = frozenset()) -> list[Told]:
    """Sums up the times of the steps that are samples; returns their lines.

    Steps after a save or an evaluation, and `others`, are no samples.
    """
    from_idle = {
        step["step"] for step in record["steps"] if step["after_save"] or step.get("after_eval")
    }
    samples = attempts.samples(steps, others | from_idle)
    seconds = {step["step"]: step["step_seconds"] for step in record["steps"]}
    timed = [one for one in samples if seconds[one.step] is not None]
    record["timing"]["step_seconds"] = summarise([seconds[one.step] for one in timed])
    return timed


def warn_of_what_is_not_told(
    record: Record, told: Sequence[Told], names: Mapping[str, Sequence[str]], others: str
) -> None:
    """Names what is null because the document does not tell it.

    `names` are the words for a figure of the steps and what their lines may call it.
    """
    present = {name for one in told for name in one.fields}
    missing = [words for words, fields in names.items() if not present.intersection(fields)]
    listed = ", ".join([*missing, others])
    record["warnings"].append(f"the document does not tell, so null: {listed}")
