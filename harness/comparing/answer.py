"""Whether two that ran are the same, in a few words, and the one number that matters most."""

import math
from dataclasses import dataclass

from harness.comparing import numbers
from harness.comparing.model import Comparison, Outcome
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


def of_runs(found: Comparison) -> Answer:
    """The answer of two that ran: the same only where every verdict says so.

    Where something was not compared, the answer says that it is of the rest.
    """
    if not found.comparable:
        severe = [one.key for one in found.differences if one.severity == "severe"]
        return Answer("unknown", "not comparable", "", f"they differ in {shortlist(severe)}")
    parts: dict[Outcome, list[str]] = {}
    for verdict in found.verdicts:
        parts.setdefault(verdict.outcome, []).append(verdict.area)
    apart = [one.area for one in found.verdicts if one.outcome in ("worse", "better", "different")]
    open_ = [*parts.get("unclear", []), *parts.get("unknown", [])]
    number, about = _number(found)
    where = " where compared" if numbers.uncompared(found) else ""
    if apart:
        outcome: Outcome = "worse" if "worse" in parts else "different"
        if "different" not in parts and "worse" not in parts:
            outcome = "better"
        same = f"the same numbers{where}; " if "numbers" in parts.get("same", []) else ""
        return Answer(outcome, f"{same}not the same {_listed(apart)}", number, about)
    if "numbers" in open_:
        return Answer("unknown", "not known", number, about)
    if open_:
        told = f"no difference found{where}; open: {', '.join(open_)}"
        return Answer("unclear", told, number, about)
    return Answer("same", f"the same{where}", number, about)


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
        *((f"value of {name}", one) for name, one in parity.metrics.items()),
    ):
        if agreement.first_step is not None:
            known = "not finite" if agreement.largest == math.inf else f"{agreement.largest:.3g}"
            return known, f"largest difference of a {what}, at step {agreement.largest_step}"
    if parity.states is not None and not parity.states.same:
        arrays = [*parity.states.differing, *parity.states.only_a, *parity.states.only_b]
        return (counted(len(arrays), "array") if arrays else ""), "the final states differ"
    if any(one.area == "numbers" and one.outcome == "different" for one in found.verdicts):
        return "", "trained alike, but other values or steps tell them apart"
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
