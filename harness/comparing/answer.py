"""Whether two that ran are the same, in a few words, and the one number that matters most."""

import math
from dataclasses import dataclass

from harness.comparing import draws, numbers
from harness.comparing.model import Comparison, Outcome
from harness.terminal.text import counted, percent, shortlist

_GRAVEST: tuple[Outcome, ...] = ("worse", "different", "better")


@dataclass(frozen=True)
class Answer:
    """words: the answer; number: what it rests on most, empty where nothing does; about: of what.

    outcome: how the words are marked and coloured. notes: under which conditions it was found;
    uncompared: what it says nothing of.
    """

    outcome: Outcome
    words: str
    number: str = ""
    about: str = ""
    notes: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()

    @property
    def rest(self) -> tuple[str, ...]:
        """All that is to be said beside the answer, in words."""
        return (*self.notes, *(f"not compared: {one}" for one in self.uncompared))


def of_runs(found: Comparison) -> Answer:
    """The answer of two that ran: the same only where every verdict says so.

    Programs may differ in what is no mathematics, which the answer says.
    Numbers that are unclear come before all else.
    """
    if not found.comparable:
        severe = [one.key for one in found.differences if one.severity == "severe"]
        return Answer("unknown", "not comparable", "", f"they differ in {shortlist(severe)}")
    own = found.verdicts[0]
    is_same = own.outcome == "same"
    is_aligned = draws.of(found.a[0], found.b[0]) == "aligned"
    alike = is_same and _computes_the_same(found)
    rest = _notes(found, is_aligned, alike), _uncompared(found, is_aligned)
    where = " where compared" if rest[1] else ""
    number, about = _number(found, is_aligned)
    apart = {one.area: one.outcome for one in found.verdicts
             if one.outcome in ("worse", "better", "different")
             and not (one.area == "program" and alike)}  # fmt: skip
    differ = f"not the same {_listed([*apart])}" if apart else ""
    outcome = next((one for one in _GRAVEST if one in apart.values()), own.outcome)
    if own.outcome in ("unclear", "unknown"):
        open_numbers = "numbers unclear" if own.outcome == "unclear" else "numbers not known"
        words = "; ".join(filter(None, (open_numbers, differ)))
        gravest: Outcome = "worse" if outcome == "worse" else own.outcome
        return Answer(gravest, words, "", own.why or about, *rest)
    if apart:
        same = f"the same numbers{where}; " if is_same else ""
        return Answer(outcome, same + differ, number, about, *rest)
    open_ = _open(found, is_aligned)
    if open_:
        words = f"no difference found{where}; open: {', '.join(open_)}"
        return Answer("unclear", words, number, about, *rest)
    return Answer("same", f"the same{where}", number, about, *rest)


def _open(found: Comparison, is_aligned: bool) -> list[str]:
    """The areas of which nothing is known for sure."""
    open_ = [one.area for one in found.verdicts if one.outcome in ("unclear", "unknown")]
    if is_aligned or "speed" not in open_:
        # What the call of a step costs is a part of the step, whose time is known.
        open_ = [area for area in open_ if area not in ("speed", "host dispatch")]
    return open_


def _computes_the_same(found: Comparison) -> bool:
    """Whether two programs differ, and in no mathematics."""
    kinds = found.programs.kinds or ()
    return bool(kinds) and all(kind != "mathematics" for kind, _ in kinds)


def _notes(found: Comparison, is_aligned: bool, alike: bool) -> tuple[str, ...]:
    kinds = ", ".join(kind for kind, _ in found.programs.kinds or ())
    return (
        *(["random draws aligned"] if is_aligned else []),
        *([f"programs differ in {kinds} alone"] if alike else []),
    )


def _uncompared(found: Comparison, is_aligned: bool) -> tuple[str, ...]:
    return (*numbers.uncompared(found), *(["how fast they are"] if is_aligned else []))


def _listed(areas: list[str]) -> str:
    *first, last = areas
    return f"{', '.join(first)} and {last}" if first else last


def _number(found: Comparison, is_aligned: bool) -> tuple[str, str]:
    """How far the numbers part; else what two took in turns or in repeats; else the equal steps.

    What two took whose draws were aligned is no number of theirs, nor how far losses part where
    equal values have told two apart: these may part by their draws.
    """
    parity, speed, own = found.parity, found.speed, found.verdicts[0]
    if own.outcome == "different" and own.why:
        return "", own.why
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
    ratio = speed.ratio
    if ratio is not None and speed.by != "one run" and not is_aligned:
        about = f"step time, {found.names[1]} to {found.names[0]}"
        if ratio.low is not None and ratio.high is not None:
            about += f"; 99 % interval {percent(ratio.low)} to {percent(ratio.high)}"
        return percent(ratio.value), about
    if parity.loss.equal:
        digits = "" if parity.digits is None else ", in the digits that are known"
        return counted(parity.loss.steps, "step"), f"with equal losses{digits}"
    return "", ""
