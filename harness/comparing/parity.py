"""Whether two runs computed the same numbers, and where they part if not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.comparing import digits, states
from harness.comparing.digits import Allowed
from harness.comparing.states import States
from harness.records.record import Record


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
    learning_rates_part: int | None  # the first step at which both are known and differ
    states: States | None  # None where a digest is missing, or the runs end at different steps
    only_a: tuple[int, ...]  # steps that B lacks
    only_b: tuple[int, ...]
    digits: int | None  # after the point, of a document's losses: equal as far as these tell

    @property
    def equal(self) -> bool:
        """Whether no number that both runs know differs."""
        return (
            self.loss.equal
            and self.grad_norm.first_step is None
            and (self.states is None or self.states.same)
        )


def compare(a: Record, b: Record) -> Parity:
    """Compares the numbers of two runs, step by step."""
    steps = [{entry["step"]: entry for entry in record["steps"]} for record in (a, b)]
    common = sorted(steps[0].keys() & steps[1].keys())
    pairs = [(step, steps[0][step], steps[1][step]) for step in common]
    same_end = all(steps) and max(steps[0]) == max(steps[1])
    is_told = "imported" in (a["status"], b["status"])
    return Parity(
        loss=_agreement(pairs, "loss", is_told, digits.allowed(a, b, "loss")),
        grad_norm=_agreement(pairs, "grad_norm", is_told, digits.allowed(a, b, "grad_norm")),
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
        digits=digits.told(a, b, "loss"),
    )


def _agreement(
    pairs: Sequence[tuple[int, dict[str, Any], dict[str, Any]]],
    key: str,
    is_told: bool,
    allowed: Allowed,
) -> Agreement:
    """Null is a number that was not finite; but in a log (is_told), one that it does not tell."""
    largest: float | None = None
    largest_step = first_step = None
    compared = 0
    for step, a, b in pairs:
        values = a[key], b[key]
        if is_told and None in values:
            continue
        compared += 1
        if values[0] == values[1]:
            continue
        difference = math.inf if None in values else _distance(*values)
        if None not in values and difference <= allowed(*values):
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
