"""The answer that a page begins with: of what ran or, where nothing did, of what was compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.comparing.answer import Answer, of_runs
from harness.comparing.model import Outcome
from harness.pages.gathering import Case, Group, Pair
from harness.pages.sources import Run
from harness.terminal.text import shortlist


@dataclass(frozen=True)
class Line:
    """The answer for one case; where: what it ran on, empty where it never did.

    others: what else is known, each with where.
    """

    answer: Answer
    where: str = ""
    others: tuple[tuple[str, Answer], ...] = ()


def of_case(case: Case, groups: Sequence[Group], slices: Sequence[str]) -> Line:
    """The newest comparison of full size, else the newest one, else what was compiled."""
    ran = [
        (_where(group), of_runs(group.pair.found))
        for group in sorted(groups, key=lambda one: one.runs[-1].record["size"] != "full")
        if group.pair is not None
    ]
    compiled = of_programs(
        {on: pair for on, pair in case.preflight_pairs.items() if on in slices},
        {on: case.preflights[on] for on in slices},
    )
    known = [*ran, *([("", compiled)] if compiled is not None else [])]
    if known:
        (where, answer), *others = known
        return Line(answer, where, tuple(others))
    words = "needs a completed run of each" if groups else "not run here yet"
    return Line(Answer("unknown", "no result", "", words))


def _where(group: Group) -> str:
    status = group.runs[-1].record["status"]
    return group.label if status == "completed" else f"{group.label}; its newest run {status}"


def of_programs(
    pairs: Mapping[str, Pair], compiled: Mapping[str, Mapping[str, Run]]
) -> Answer | None:
    """The answer of two that were compiled for slices and never ran; None where neither was.

    pairs: by slice, of those compiled for it in both implementations.
    """
    if not compiled:
        return None
    unfit = [
        on for on, sides in compiled.items() if any(run.record["error"] for run in sides.values())
    ]
    rest = f"; does not fit: {shortlist(unfit)}" if unfit else ""
    same = {on: pair.found.programs.same for on, pair in pairs.items()}
    apart = [on for on, known in same.items() if known is False]
    whole = len(compiled)
    if apart:
        about = f"compilations for slices, none ran: {shortlist(apart)}{rest}"
        return Answer("different", "different programs", f"{len(apart)} of {whole}", about)
    alike = sum(known is True for known in same.values())
    about = f"compilations for slices, none ran{rest}"
    if not alike:
        return Answer("unknown", "not known", "", about)
    outcome: Outcome = "same" if alike == whole else "unclear"
    return Answer(outcome, "one program", f"{alike} of {whole}", about)
