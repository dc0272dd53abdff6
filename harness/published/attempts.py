"""Puts the step lines of a log in order: attempts, repeated and lost lines, and which are samples.

A log may hold several starts of one run, lines of several processes, or a part of its lines only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

from harness.published.document import half_unit, number
from harness.records.figures import WARM_UP_STEPS
from harness.terminal.text import shortlist

_USUAL_DIGITS = 3  # after the point, of the figure that a line of MaxText ends with
_MOST_NAMED = 5  # gaps or restarts in a warning


@dataclass(frozen=True)
class Told:
    """A line that tells of a step.

    at: where in the text; covers: steps that its figures are means of; fields: each value as
    printed, by the line's own names; form: the line with its digits made equal; whole: whether
    the text goes on after it.
    """

    step: int
    at: int
    fields: dict[str, str]
    form: str = ""
    whole: bool = True
    covers: int = 1
    phase: str = ""

    def value(self, *names: str) -> float | None:
        """The first field of these names, None when the line has none or it is not finite."""
        text = next((self.fields[name] for name in names if name in self.fields), None)
        return None if text is None else number(text)

    def is_broken(self, *names: str) -> bool:
        """Whether a field of one of these names is there, and not finite."""
        return any(name in self.fields and self.value(name) is None for name in names)

    def half_unit(self, *names: str) -> float | None:
        """How exactly the first field of these names is printed, None without such a field."""
        text = next((self.fields[name] for name in names if name in self.fields), None)
        return None if text is None or number(text) is None else half_unit(text)


@dataclass(frozen=True)
class Steps:
    """What a log tells of its steps: each once and in order, and what had to be done for it.

    first_samples: the first step that is no warm-up of the start it belongs to.
    """

    told: Sequence[Told]
    attempts: Sequence[Sequence[Told]]
    notes: Sequence[str] = field(default_factory=tuple)
    first_sample: int = 0

    @property
    def last_attempt(self) -> Sequence[Told]:
        """The lines of the start that the last step belongs to."""
        last = self.told[-1]
        return next(one for one in self.attempts if any(line is last for line in one))


def whole(told: Sequence[Told]) -> tuple[Sequence[Told], list[str]]:
    """The lines without a last one that was cut; with a note about it.

    Without a line end after it, a line is whole when it has the form of those before.
    """
    if not told or told[-1].whole:
        return told, []
    last, before = told[-1], told[:-1]
    if (
        before
        and last.form in {one.form for one in before}
        and _digits(last) == _digits(before[-1])
    ):
        return told, []
    if not before and (last.form.endswith("|") or _digits(last) >= _USUAL_DIGITS):
        return told, []
    return told[:-1], [f"the text ends inside the line of step {last.step}: that step is left out"]


def usual_distance(told: Sequence[Told]) -> int:
    """Of two lines, in steps; a single line may stand for one."""
    distances = Counter(b.step - a.step for a, b in pairwise(told) if b.step > a.step)
    return distances.most_common(1)[0][0] if distances else 1


def in_order(told: Sequence[Told], starts: Sequence[int], every: int = 1) -> Steps:
    """The steps of a log's lines.

    `starts` are the places in the text at which a process says that it begins; `every` is the
    usual distance of two lines in steps.
    """
    told, notes = whole(told)
    if not told:
        return Steps((), (), notes)
    told, repeated = _without_repeats(told, starts)
    notes += repeated
    if len(told) > 1 and all(a.step > b.step for a, b in pairwise(told)):
        told = told[::-1]
        notes.append("the log lists its newest lines first; they are put in order")
    told, mixed = _of_one_process(told, starts)
    notes += mixed
    attempts = _attempts(told, starts)
    by_step = {one.step: one for attempt in attempts for one in attempt}
    kept = [by_step[step] for step in sorted(by_step)]
    if len(attempts) > 1:
        begins = shortlist([str(attempt[0].step) for attempt in attempts[1:]], _MOST_NAMED)
        notes.append(
            f"the log holds {len(attempts)} attempts; those after the first begin at step "
            f"{begins}; of a step told twice the later attempt's line counts"
        )
    gaps = [
        str(a.step + 1) if b.step == a.step + 2 else f"{a.step + 1} to {b.step - 1}"
        for a, b in pairwise(kept)
        if b.step - a.step > max(every, b.covers)
    ]
    if gaps:
        notes.append(
            f"lines are missing: the log does not tell of steps {shortlist(gaps, _MOST_NAMED)}"
        )
    steps = Steps(kept, attempts, notes)
    return Steps(kept, attempts, notes, _first_sample(steps, starts))


def samples(steps: Steps, not_samples: Set[int]) -> list[Told]:
    """The lines whose times are samples: the last ones of one start, after its warm-up.

    `not_samples` are steps that hold something else: a save, an evaluation, another batch size.
    """
    attempt = set(map(id, steps.last_attempt))
    found: list[Told] = []
    for one in reversed(steps.told):
        if id(one) not in attempt or one.step - one.covers + 1 < steps.first_sample:
            break
        if one.step not in not_samples:
            found.append(one)
    return found[::-1]


def _first_sample(steps: Steps, starts: Sequence[int]) -> int:
    """An excerpt without a start begins in the middle of a run, or with the run's first step."""
    attempt = steps.last_attempt
    first = attempt[0].step - attempt[0].covers + 1
    is_excerpt = attempt is steps.attempts[0] and not any(at <= attempt[0].at for at in starts)
    return WARM_UP_STEPS if is_excerpt else first + WARM_UP_STEPS


def _without_repeats(
    told: Sequence[Told], starts: Sequence[int]
) -> tuple[Sequence[Told], list[str]]:
    """Lines that one start printed twice, as by two loggers, once."""
    seen: set[tuple[int, int, tuple[tuple[str, str], ...]]] = set()
    found = []
    for one in told:
        key = (bisect_left(starts, one.at), one.step, tuple(sorted(one.fields.items())))
        if key not in seen:
            seen.add(key)
            found.append(one)
    repeated = len(told) - len(found)
    return found, [f"lines that repeat another one, left out: {repeated}"] if repeated else []


def _of_one_process(
    told: Sequence[Told], starts: Sequence[int]
) -> tuple[Sequence[Told], list[str]]:
    """One line of each step where processes that are not marked speak in turns."""
    back = sum(
        b.step <= a.step and not any(a.at < at < b.at for at in starts) for a, b in pairwise(told)
    )
    distinct = len({one.step for one in told})
    if distinct < 2 or 2 * back < distinct:
        return told, []
    first: dict[int, Told] = {}
    for one in told:
        first.setdefault(one.step, one)
    most = max(Counter(one.step for one in told).values())
    return list(first.values()), [
        f"up to {most} processes speak in turns and are not marked: of each step the first line "
        "counts"
    ]


def _attempts(told: Sequence[Told], starts: Sequence[int]) -> list[list[Told]]:
    attempts = [[told[0]]]
    for before, one in pairwise(told):
        begins = any(before.at < at < one.at for at in starts)
        if begins or one.step <= before.step:
            attempts.append([])
        attempts[-1].append(one)
    return attempts


def _digits(one: Told) -> int:
    """How many digits after the point the last field has."""
    return len([*one.fields.values()][-1].partition(".")[2])
