"""What is known of two sets of runs side by side, and what to make of it."""

from dataclasses import dataclass
from statistics import median
from typing import Literal

from harness import hlo
from harness.comparing.comparability import Difference
from harness.comparing.parity import Parity
from harness.comparing.statistics import Ratio
from harness.records.record import Record

Better = Literal["lower", "higher"] | None
Outcome = Literal["same", "better", "worse", "different", "unclear", "unknown"]
Basis = Literal["turns", "runs", "one run"]

MARKS: dict[Outcome, str] = {
    "worse": "▲",
    "better": "▼",
    "different": "≠",
    "same": "=",
    "unclear": "?",
    "unknown": "-",
}


@dataclass(frozen=True)
class Limits:
    """From where on a difference matters: smaller ones are called alike, larger ones regress."""

    slowdown_percent: float = 1.0
    memory_percent: float = 1.0
    loss_difference: float = 0.0


USUAL = Limits()


@dataclass(frozen=True)
class Row:
    """One line of the table: the median over a side's runs, None where nothing is known.

    ratio: B to A, of numbers other than zero, where it says something; low and high: its interval,
    where there are samples enough for one. note: what is to be known of it, mostly nothing.
    """

    name: str
    unit: str
    a: float | str | None
    b: float | str | None
    ratio: float | None
    low: float | None
    high: float | None
    better: Better
    note: str = ""

    @property
    def is_unlike(self) -> bool:
        """Whether the two differ by what no ratio tells: texts, and numbers beside zero."""
        return self.a != self.b and (isinstance(self.a, str) or 0 in (self.a, self.b))


@dataclass(frozen=True)
class Speed:
    """Times of a step, or of its dispatch: `ratio` of B to A, None where a side has none.

    by: what it rests on: blocks of steps run in turns, the medians of several runs a side, or one
    run a side, which does not show how runs vary. unit: what each sample is. one_program: whether
    both sides are one optimised program, called in the same way by the same code. advice: what
    would settle it, empty when nothing would or nothing is open. blocks: of each side, seconds per
    step, in order of time.
    """

    ratio: Ratio | None
    by: Basis
    unit: Literal["block", "run", "step"]
    one_program: bool
    advice: str
    blocks: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @property
    def in_turns(self) -> tuple[float, float] | None:
        """The medians of both sides' blocks, of two that were run in turns."""
        if self.by != "turns" or self.ratio is None:
            return None
        return median(self.blocks[0]), median(self.blocks[1])


@dataclass(frozen=True)
class Programs:
    """The compiled steps. same: None where a fingerprint is missing; changes: name, A, B.

    operations: what differs operation by operation, and kinds: how many of these there are of each
    kind, None where a program is not there to be read.
    """

    same: bool | None
    same_lowered: bool | None
    fingerprint: str | None  # of A's
    changes: tuple[tuple[str, float, float], ...]
    operations: tuple[hlo.Difference, ...] | None
    kinds: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True)
class Verdict:
    """What to make of one area. regression: B is worse than the limits allow, beyond doubt.

    doubted: what was measured does not show whether the two are one. why: of numbers, what else
    than the steps decided.
    """

    area: str
    outcome: Outcome
    words: str
    regression: bool = False
    doubted: bool = False
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """Runs B against their baseline, runs A."""

    a: tuple[Record, ...]
    b: tuple[Record, ...]
    names: tuple[str, str]  # of the sides: linen and nnx, or A and B
    differences: tuple[Difference, ...]
    rows: tuple[Row, ...]
    parity: Parity
    speed: Speed
    dispatch: Speed
    programs: Programs
    warnings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]  # none of runs that are not comparable

    @property
    def comparable(self) -> bool:
        """Whether the figures of the two sides mean the same."""
        return all(difference.severity != "severe" for difference in self.differences)

    @property
    def undecided(self) -> bool:
        """Whether speed is open because there is but one run a side, and none in turns."""
        return any(one.area == "speed" and one.outcome == "unclear" for one in self.verdicts) and (
            self.speed.by == "one run"
        )

    @property
    def doubtful(self) -> bool:
        """Whether any verdict is in doubt."""
        return any(verdict.doubted for verdict in self.verdicts)

    @property
    def regressed(self) -> bool:
        """Whether B is worse than A by more than the limits allow, beyond doubt."""
        return any(verdict.regression for verdict in self.verdicts)
