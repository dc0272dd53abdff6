"""How many digits a document tells of its numbers, and how far two of them may lie apart."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from harness.records.record import Record

# How far two values may lie apart that are the same number, as far as their digits tell.
Allowed = Callable[[float, float], float]


@dataclass(frozen=True)
class Digits:
    """The most that any number of a document's column has: after the point, and significant.

    A document writes either as many of one or of the other; its numbers alone do not tell which,
    so that a value is known to the coarser of the two.
    """

    decimals: int
    significant: int

    def half_unit(self, value: float) -> float:
        """Half of what the last digit known of a value is worth."""
        exponent = math.floor(math.log10(abs(value))) if value else 0
        decimals = min(self.decimals, self.significant - 1 - exponent)
        return 0.5 * 10.0 ** -max(-300, min(decimals, 300))


def of(record: Record, key: str) -> Digits | None:
    """The digits of a column of an imported record's steps; None of one that is exact, or empty."""
    if record["status"] != "imported":
        return None
    values = [entry[key] for entry in record["steps"] if entry[key] is not None]
    return Digits(max(map(_decimals, values)), max(map(_significant, values))) if values else None


def allowed(a: Record, b: Record, key: str) -> Allowed:
    """How far apart a value of each may lie, to be equal as far as is known.

    Nothing, where both are exact or documents of one kind: these write alike, and so write equal
    numbers as equal digits.
    """
    known = of(a, key), of(b, key)
    if known == (None, None) or (None not in known and _alike(a, b)):
        return lambda one, other: 0.0

    def room(one: float, other: float) -> float:
        values = zip(known, (one, other), strict=True)
        units = sum(digits.half_unit(value) for digits, value in values if digits is not None)
        return units * (1 + 1e-6)  # for a value right between two, in binary

    return room


def told(a: Record, b: Record, key: str) -> int | None:
    """The digits after the point that both sides tell; None where both are exact."""
    counts = [one.decimals for one in (of(a, key), of(b, key)) if one is not None]
    if not counts:
        return None
    return max(counts) if _alike(a, b) else min(counts)


def _alike(a: Record, b: Record) -> bool:
    """Whether both are read from documents of one kind."""
    kinds = [one.get("source", {}).get("kind") for one in (a, b) if one["status"] == "imported"]
    return len(kinds) == 2 and kinds[0] == kinds[1]


def _decimals(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _significant(value: float) -> int:
    return len(Decimal(repr(value)).normalize().as_tuple().digits)
