"""Whether two runs computed the same numbers, and where they part if not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.comparing import states
from harness.comparing.states import States
from harness.records.record import Record

_OLDER_ROUNDING = 0.0005  # of imported records that do not say: logs of three digits
_ARITHMETIC = 1e-9  # of a difference of two rounded figures
# What a step or an evaluation tells that is compared by itself, or is of the clock.
_ELSEWHERE = ("step", "loss", "grad_norm", "learning_rate", "step_seconds", "seconds", "after_save",
              "after_eval", "stopped")  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """One quantity of two runs, over the steps at which both know it.

    largest: the largest difference, inf when only one run's value is finite. first_step: the first
    step at which they are not the same number. All None when they never differ.
    """

    steps: int
    largest: float | None
    largest_step: int | None
    first_step: int | None

    @property
    def equal(self) -> bool:
        """Whether there was something to compare, and no difference."""
        return self.steps > 0 and self.first_step is None


@dataclass(frozen=True)
class Parity:
    """How the numbers of run B stand to those of run A."""

    loss: Agreement
    grad_norm: Agreement
    evaluations: Agreement  # of their losses, over no step where they are of other data
    metrics: Mapping[str, Agreement]  # of what else both tell, by name: those that differ
    learning_rates_part: int | None  # the first step at which both are known and differ
    states: States | None  # None where a digest is missing, or the runs end at different steps
    only_a: tuple[int, ...]  # steps that B lacks
    only_b: tuple[int, ...]
    digits: int | None  # after the point that both know of a loss; None when both are exact

    @property
    def equal(self) -> bool:
        """Whether no number that both runs know differs."""
        return (
            self.loss.equal
            and self.grad_norm.first_step is None
            and self.evaluations.first_step is None
            and not self.metrics
            and (self.states is None or self.states.same)
        )


def compare(a: Record, b: Record) -> Parity:
    """Compares the numbers of two runs, step by step."""
    steps = [{entry["step"]: entry for entry in record["steps"]} for record in (a, b)]
    common = sorted(steps[0].keys() & steps[1].keys())
    pairs = [(step, steps[0][step], steps[1][step]) for step in common]
    same_end = all(steps) and max(steps[0]) == max(steps[1])
    told = "imported" in (a["status"], b["status"])
    tolerance = {key: _tolerance(a, b, key) for key in ("loss", "grad_norm")}
    evaluations = [] if told else _evaluations(a, b)
    half_unit = max(_rounding(a, "loss"), _rounding(b, "loss"))
    return Parity(
        loss=_agreement(pairs, "loss", told, tolerance["loss"]),
        grad_norm=_agreement(pairs, "grad_norm", told, tolerance["grad_norm"]),
        evaluations=_agreement(evaluations, "loss", told, 0.0),
        metrics={} if told else _differing(pairs, "") | _differing(evaluations, "evaluated "),
        learning_rates_part=next(
            (
                step
                for step, one, other in pairs
                if None not in (one["learning_rate"], other["learning_rate"])
                and one["learning_rate"] != other["learning_rate"]
            ),
            None,
        ),
        states=states.compare(a, b) if same_end else None,
        only_a=tuple(sorted(steps[0].keys() - steps[1].keys())),
        only_b=tuple(sorted(steps[1].keys() - steps[0].keys())),
        digits=max(0, round(-math.log10(2 * half_unit))) if half_unit > 0 else None,
    )


def _differing(
    pairs: Sequence[tuple[int, dict[str, Any], dict[str, Any]]], before: str
) -> dict[str, Agreement]:
    """The metrics that both tell and that differ, by name with `before` before it."""
    names = dict.fromkeys(name for _, a, b in pairs for name in a if name in b)
    found = {
        before + name: _agreement(
            [one for one in pairs if name in one[1] and name in one[2]], name, False, 0.0
        )
        for name in names
        if name not in _ELSEWHERE
    }
    return {name: one for name, one in found.items() if one.first_step is not None}


def _evaluations(a: Record, b: Record) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The evaluations that both runs have, where they are of the same data."""
    data = [
        [record["case"]["config"].get(f"eval.{key}") for key in ("tokens", "batches")]
        for record in (a, b)
    ]
    if data[0] != data[1]:
        return []
    entries = [{one["step"]: one for one in record.get("evals", ())} for record in (a, b)]
    common = sorted(entries[0].keys() & entries[1].keys())
    return [(step, entries[0][step], entries[1][step]) for step in common]


def _rounding(record: Record, key: str) -> float:
    """How far a figure of the steps may be from the exact one: a log prints some digits only."""
    if record["status"] != "imported":
        return 0.0
    told = record.get("source", {}).get("rounding", {})
    return float(told.get(key, _OLDER_ROUNDING))


def _tolerance(a: Record, b: Record, key: str) -> float:
    """How far equal figures may be apart: not at all, unless one is printed more exactly."""
    errors = _rounding(a, key), _rounding(b, key)
    return 0.0 if errors[0] == errors[1] else max(errors) + _ARITHMETIC


def _agreement(
    pairs: Sequence[tuple[int, dict[str, Any], dict[str, Any]]],
    key: str,
    told: bool,
    tolerance: float,
) -> Agreement:
    """Null is a number that was not finite; but of what a log `told`, one that it may leave out.

    Two that are not finite are not compared: nothing tells whether they would have been the same.
    """
    largest: float | None = None
    largest_step = first_step = None
    compared = 0
    for step, a, b in pairs:
        values = a[key], b[key]
        if None in values and (told or values[0] == values[1]):
            continue
        compared += 1
        if values[0] == values[1]:
            continue
        difference = math.inf if None in values else _distance(*values)
        if difference <= tolerance:
            continue
        first_step = step if first_step is None else first_step
        if largest is None or difference > largest:
            largest, largest_step = difference, step
    return Agreement(compared, largest, largest_step, first_step)


def _distance(a: float, b: float) -> float:
    try:
        return float(abs(a - b))
    except OverflowError:  # JSON has integers of any length
        return math.inf
