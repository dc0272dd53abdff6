"""The settings by which a case is fastest on a slice, found by compiling what promises most."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from harness.slices.estimates import estimate
from harness.slices.rows import Figures, Row
from harness.slices.space import Candidate, Change, Space
from harness.terminal.errors import UserError
from harness.terminal.text import gib, one_line

_SLACK = 1.1  # a step may be estimated too slow by this factor


@dataclass(frozen=True)
class Found:
    """What a search has come to.

    rows: all that was compiled, as it came. refused: what cannot be compiled, and why. spared: what
    the estimates say is not worth it, and why. untried: what time did not suffice for.
    """

    rows: tuple[Row, ...]
    refused: Mapping[Candidate, str]
    spared: Mapping[Candidate, str]
    untried: tuple[Candidate, ...]
    seconds: float


def search(
    space: Space,
    ask: Callable[[Candidate], Row],
    budget_seconds: float,
    clock: Callable[[], float],
    told: Callable[[Row, float], None],
) -> Found:
    """Compiles candidates, those first of which most is expected, until none is worth it.

    Each is one change away from a row of the front. A compilation that may outlast the budget is
    not begun. ask: compiles, and raises what keeps a candidate from it; of the case as it is, that
    is raised. told: of each row, and of the seconds that are left.
    """
    begun = clock()
    rows: dict[Candidate, Row] = {}
    refused: dict[Candidate, str] = {}
    promising, spared = [space.start], dict[Candidate, str]()
    longest = 0.0
    while promising:
        before = clock()
        if begun + budget_seconds - before < longest:
            break
        candidate = promising[0]
        try:
            rows[candidate] = ask(candidate)
        except Exception as error:  # of one candidate: the others are worth as much as before
            if candidate == space.start:
                raise
            refused[candidate] = str(error) if isinstance(error, UserError) else one_line(error)
        else:
            now = clock()
            longest = max(longest, now - before, rows[candidate].compile_seconds)
            told(rows[candidate], begun + budget_seconds - now)
        promising, spared = _judged(space, rows, refused)
    return Found(tuple(rows.values()), refused, spared, tuple(promising), clock() - begun)


def front(rows: Collection[Row]) -> list[Row]:
    """The rows that none beats in speed, memory and batch at once, the fastest first.

    Those that do not fit are left out, and those slower than the first, the case as it is.
    """
    fitting = [(row, row.figures) for row in rows if row.fits and row.figures is not None]
    least = _least_speed(rows)
    kept = [
        (figures.tokens_per_second, row)
        for row, figures in fitting
        if figures.tokens_per_second >= least
        and not any(other.beats(figures) for _, other in fitting)
    ]
    return [row for _, row in sorted(kept, key=lambda one: -one[0])]


def _least_speed(rows: Collection[Row]) -> float:
    """Tokens per second of the case as it is, 0 when it does not fit."""
    start = next(iter(rows))
    return start.figures.tokens_per_second if start.fits and start.figures is not None else 0.0


def _judged(
    space: Space, rows: Mapping[Candidate, Row], refused: Mapping[Candidate, str]
) -> tuple[list[Candidate], dict[Candidate, str]]:
    """What is worth compiling, the most promising first; and what is not, and why."""
    known = {one: row.figures for one, row in rows.items() if row.fits and row.figures is not None}
    if not known:
        return _smaller(space, rows, refused), {}
    least = _least_speed(rows.values())
    promising: dict[Candidate, float] = {}
    spared: dict[Candidate, str] = {}
    for row in front(rows.values()):
        for change in space.changes(row.candidate):
            candidate = space.changed(row.candidate, change)
            if candidate in rows or candidate in refused or candidate in promising:
                continue
            expected = estimate(space, known, row.candidate, change)
            reason = _refusal(space, rows, refused, change) or _not_worth(
                expected, known.values(), least, row.capacity_bytes
            )
            if reason is None:
                promising[candidate] = expected.tokens_per_second
                spared.pop(candidate, None)
            else:
                spared[candidate] = reason
    return sorted(promising, key=lambda one: -promising[one]), spared


def _smaller(
    space: Space, rows: Collection[Candidate], refused: Collection[Candidate]
) -> list[Candidate]:
    """What is a change away from what does not fit, those of the smallest batch first."""
    near = (space.changed(one, change) for one in rows for change in space.changes(one))
    new = dict.fromkeys(one for one in near if one not in rows and one not in refused)
    return sorted(new, key=lambda one: int(space.value(one, space.batch_key)))


def _refusal(
    space: Space, rows: Collection[Candidate], refused: Mapping[Candidate, str], change: Change
) -> str | None:
    """Why the same change was refused elsewhere, None where it was not."""
    elsewhere = (space.changed(one, change) for one in rows)
    return next((refused[one] for one in elsewhere if one in refused), None)


def _not_worth(
    expected: Figures, known: Collection[Figures], least: float, capacity_bytes: int
) -> str | None:
    """Why what is expected is not worth a compilation; None when it is."""
    if expected.needed_bytes > capacity_bytes:
        return f"would need about {gib(expected.needed_bytes)} GiB"
    faster = replace(expected, step_seconds=expected.step_seconds / _SLACK)
    if faster.tokens_per_second < least:
        return f"about {expected.step_seconds:.3f} s a step, slower than the case as it is"
    if any(one.beats(faster) for one in known):
        return f"about {expected.step_seconds:.3f} s a step, and needs no less"
    return None
