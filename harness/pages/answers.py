"""Whether two are the same, in a few words, and the one number that matters most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.comparing.model import Comparison, Outcome
from harness.pages.gathering import Case, Group, Pair
from harness.pages.sources import Run
from harness.terminal.text import counted, percent, shortlist


@dataclass(frozen=True)
class Answer:
    """words: the answer; number: what it rests on most, empty where nothing does; about: of what.

    outcome: how the words are marked and coloured.
    """

    outcome: Outcome
    words: str
    number: str = ""
    about: str = ""


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


def of_runs(found: Comparison) -> Answer:
    """The answer of two that ran: the same only where every verdict says so."""
    if not found.comparable:
        severe = [one.key for one in found.differences if one.severity == "severe"]
        return Answer("unknown", "not comparable", "", f"they differ in {shortlist(severe)}")
    parts: dict[Outcome, list[str]] = {}
    for verdict in found.verdicts:
        parts.setdefault(verdict.outcome, []).append(verdict.area)
    apart = [one.area for one in found.verdicts if one.outcome in ("worse", "better", "different")]
    open_ = [*parts.get("unclear", []), *parts.get("unknown", [])]
    number, about = _number(found)
    if apart:
        outcome: Outcome = "worse" if "worse" in parts else "different"
        if "different" not in parts and "worse" not in parts:
            outcome = "better"
        numbers = "the same numbers; " if "numbers" in parts.get("same", []) else ""
        return Answer(outcome, f"{numbers}not the same {_listed(apart)}", number, about)
    if "numbers" in open_:
        return Answer("unknown", "not known", number, about)
    if open_:
        return Answer("unclear", f"no difference found; open: {', '.join(open_)}", number, about)
    return Answer("same", "the same", number, about)


def _listed(areas: list[str]) -> str:
    *first, last = areas
    return f"{', '.join(first)} and {last}" if first else last


def _number(found: Comparison) -> tuple[str, str]:
    """How far the numbers part; else what two took in turns or in repeats; else the equal steps."""
    parity, speed = found.parity, found.speed
    for what, agreement in (
        ("loss", parity.loss),
        ("gradient norm", parity.grad_norm),
        ("loss of an evaluation", parity.evaluations),
    ):
        if agreement.first_step is not None:
            known = "not finite" if agreement.largest == math.inf else f"{agreement.largest:.3g}"
            return known, f"largest difference of a {what}, at step {agreement.largest_step}"
    if parity.states is not None and not parity.states.same:
        arrays = [*parity.states.differing, *parity.states.only_a, *parity.states.only_b]
        return (counted(len(arrays), "array") if arrays else ""), "the final states differ"
    ratio = speed.ratio
    if ratio is not None and speed.by != "one run":
        about = f"step time, {found.names[1]} to {found.names[0]}"
        if ratio.low is not None and ratio.high is not None:
            about += f"; {percent(ratio.low)} to {percent(ratio.high)} with 99 %"
        return percent(ratio.value), about
    if parity.loss.equal:
        digits = "" if parity.digits is None else ", in the digits that are known"
        return counted(parity.loss.steps, "step"), f"with equal losses{digits}"
    return "", ""


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
