"""What a search has found as text: for a terminal, as a page in Markdown, and as JSON."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.slices.forecast import Question
from harness.slices.rows import Row
from harness.slices.search import Found, front
from harness.slices.space import Candidate
from harness.terminal.text import aligned, capped, counted, gib

_HEADINGS = [
    *("tokens/s/chip", "MFU %", "step s", "compute s", "kernels s", "wire s", "of it hidden s"),
    *("batch", "headroom GiB", "settings"),
]
_SHOWN = 12
_ABOUT = """Predicted of steps compiled by libtpu for a slice that was not there; nothing ran. Each
row is what `harness preflight` says of the case with these settings; none is beaten by
another one in speed, memory and batch at once, and none is slower than the case as it is. MFU
counts the products that the model asks for, not what is computed twice.""".replace("\n", " ")


@dataclass(frozen=True)
class Sought:
    """What a search is of: a case, with the overrides that it was given; and for how long."""

    question: Question
    overrides: Sequence[str]
    minutes: float

    def options(self, candidate: Candidate) -> str:
        """What to paste behind the command to have a candidate; "as it is" of no change at all."""
        said = [*self.overrides, *candidate.overrides]
        settings = {text.partition("=")[0].strip(): text for text in said}  # the last one counts
        recipe = [] if candidate.recipe == "reference" else [f"--recipe {candidate.recipe}"]
        options = [*recipe, *(f"--set {shlex.quote(text)}" for text in settings.values())]
        return " ".join(options) or "as it is"


def line(sought: Sought, row: Row, seconds_left: float) -> str:
    """One row as it comes."""
    what = sought.options(row.candidate)
    left = f"{max(seconds_left, 0) / 60:.1f} min left"
    if row.figures is None:
        return f"{what}: {row.error}; {left}"
    mfu = "" if row.mfu_percent is None else f", MFU {row.mfu_percent:.1f} %"
    return (
        f"{what}: {row.figures.step_seconds:.4f} s, {row.figures.tokens_per_second:,.0f}"
        f" tokens/s/chip{mfu}, {gib(row.figures.needed_bytes)} GiB; {left}"
    )


def describe(sought: Sought, found: Found) -> str:
    """The table, where the fastest row's time goes, and what was left out."""
    best = front(found.rows)
    lines = [_summary(sought, found)]
    if best:
        table = [_HEADINGS, *(_cells(sought, row) for row in best)]
        lines += [*aligned(table, right="numbers"), _where(best[0])]
    else:
        lines.append("nothing that was compiled fits")
    for heading, told in _left_out(sought, found).items():
        lines += [heading, *capped(told, _SHOWN)]
    return "\n".join(lines)


def markdown(sought: Sought, found: Found, environment: Mapping[str, Any], command: str) -> str:
    """The same as a page, with the command that made it."""
    best = front(found.rows)
    rows = [_HEADINGS, [*["---:"] * (len(_HEADINGS) - 1), "---"]]
    rows += [_cells(sought, row) for row in best]
    lines = [
        f"# The fastest that fits: {sought.question.case.shown} on {sought.question.on.name}",
        "",
        _ABOUT,
        "",
        f"Made with JAX {environment['jax']}, libtpu {environment['libtpu']}, flax"
        f" {environment['flax']}, by `{command}`. {_summary(sought, found)}.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *([f"{_where(best[0])}.", ""] if best else []),
    ]
    for heading, told in _left_out(sought, found).items():
        lines += [heading, "", *(f"- {one}" for one in told), ""]
    return "\n".join(lines).rstrip()


def document(
    sought: Sought, found: Found, environment: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """Everything that was found, every row with all its figures, as JSON has it."""
    best = front(found.rows)
    return {
        "case": sought.question.case.name,
        "size": sought.question.size,
        "impl": sought.question.impl,
        "topology": sought.question.on.name,
        "command": command,
        "minutes": sought.minutes,
        "seconds": round(found.seconds, 1),
        "environment": dict(environment),
        "rows": [
            {
                "options": sought.options(row.candidate),
                "is_best": row in best,
                "fits": row.fits,
                "tokens_per_second_per_chip": row.figures and row.figures.tokens_per_second,
                **dataclasses.asdict(row),
            }
            for row in found.rows
        ],
        "refused": _by_options(sought, found.refused),
        "spared": _by_options(sought, found.spared),
        "untried": [sought.options(one) for one in found.untried],
    }


def _summary(sought: Sought, found: Found) -> str:
    """Of what, in what time, and whether anything is left to try."""
    question, left = sought.question, len(found.untried)
    more = f"{left} more promise something: the same command goes on" if left else "complete"
    return (
        f"{question.case.shown} on {question.on.name}, {question.impl}:"
        f" {counted(len(found.rows), 'program')} in {found.seconds / 60:.1f} of"
        f" {sought.minutes:g} minutes; {more}"
    )


def _cells(sought: Sought, row: Row) -> list[str]:
    figures = row.figures
    assert figures is not None  # else it is on no front
    about = "≈" if row.inexact else ""
    seconds = (row.compute_seconds, row.kernel_seconds, row.wire_seconds, row.hidden_wire_seconds)
    return [
        f"{about}{figures.tokens_per_second:,.0f}",
        "-" if row.mfu_percent is None else f"{about}{row.mfu_percent:.1f}",
        f"{about}{figures.step_seconds:.4f}",
        *(f"{about}{one:.4f}" for one in seconds),
        f"{figures.batch:,}",
        gib(row.capacity_bytes - figures.needed_bytes),
        sought.options(row.candidate),
    ]


def _where(row: Row) -> str:
    """On what the fastest one's step is spent."""
    total = sum(row.cycles_by_part.values())
    parts = ", ".join(
        f"{part} {100 * cycles / total:.0f} %" for part, cycles in row.cycles_by_part.items()
    )
    return (
        f"the fastest one's step: compute {row.compute_seconds:.4f} s ({parts}), Pallas kernels"
        f" {row.kernel_seconds:.4f}, wire that nothing hides"
        f" {row.wire_seconds - row.hidden_wire_seconds:.4f}"
    )


def _left_out(sought: Sought, found: Found) -> dict[str, list[str]]:
    """What stands in no table, by why."""
    best = front(found.rows)
    others = [row for row in found.rows if row not in best]
    beaten, large = (
        {row.candidate: _briefly(row) for row in others if row.fits == fits}
        for fits in (True, False)
    )
    reasons = {
        "compiled, and beaten by one of these:": beaten,
        "compiled, and too large:": large,
        "not compiled, by estimate:": found.spared,
        "not possible:": found.refused,
        "not compiled for want of time:": dict.fromkeys(found.untried, "promises something"),
    }
    return {
        heading: [f"{options}: {why}" for options, why in _by_options(sought, of).items()]
        for heading, of in reasons.items()
        if of
    }


def _by_options(sought: Sought, reasons: Mapping[Candidate, str]) -> dict[str, str]:
    return {sought.options(one): reason for one, reason in reasons.items()}


def _briefly(row: Row) -> str:
    if row.figures is None:
        return str(row.error)
    return f"{row.figures.step_seconds:.4f} s, {gib(row.figures.needed_bytes)} GiB"
