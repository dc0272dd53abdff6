"""One comparison as a page of its own, in one file that can be sent to somebody."""

from collections.abc import Sequence

from markupsafe import Markup

from harness.comparing.answer import of_runs
from harness.comparing.model import Comparison
from harness.pages import anatomy, answers, charts, curves, rendering, turns, words
from harness.pages.charts import Series
from harness.pages.gathering import Pair
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record, case_name

_RUNS = 40  # listed of a side, the newest
_ARRAYS = 60  # listed of those that differ


def page(found: Comparison) -> str:
    """The page: the answer, the verdicts, turns, where the numbers part, what else differs."""
    a, b = ([Run(record, "", None) for record in side] for side in (found.a, found.b))
    runs = [a[-1], b[-1]]
    first = found.a[0]
    names = _names(found, runs)
    return rendering.render(
        "comparison.html.jinja",
        "comparison.html",
        has_charts=True,
        alone=True,
        title=f"{case_name(first) or 'no case'}: {names[1]} against {names[0]}",
        found=found,
        pair=Pair(found, tuple(a), tuple(b)),
        line=answers.Line(of_runs(found)),
        first=first,
        turns=turns.chart(found),
        parting=_parting(found, runs, " - ".join(reversed(names))),
        arrays=_arrays(found),
        charts=curves.charts_of(
            runs, "runs", dashed="" if a[-1].impl == b[-1].impl else b[-1].impl
        ),
        memory=anatomy.memory(list(zip(names, runs, strict=True))),
        sides=[(name, side[-_RUNS:]) for name, side in zip(names, (a, b), strict=True)],
    )


def _names(found: Comparison, runs: Sequence[Run]) -> tuple[str, str]:
    """What the sides are called; by their newest runs where both are of one implementation."""
    if found.names != ("A", "B"):
        return found.names
    a, b = (str(run.record["run_id"]) for run in runs)
    return a, b


def _parting(found: Comparison, runs: Sequence[Run], name: str) -> list[Markup]:
    """How far losses and gradient norms lie apart at each step; nothing of what is equal."""
    drawn = []
    for title, key, agreement in (
        ("Difference of the losses", "loss", found.parity.loss),
        ("Difference of the gradient norms", "grad_norm", found.parity.grad_norm),
    ):
        if agreement.first_step is not None:
            xs, ys = _differences(key, *(run.record for run in runs))
            series = [Series(name, xs, ys, 1)]
            drawn.append(charts.lines(title, series, "step", words.plain, group="runs"))
    return [chart for chart in drawn if chart]


def _differences(key: str, a: Record, b: Record) -> tuple[list[float], list[float | None]]:
    """At the steps that both have; None where either is not known."""
    before = {entry["step"]: figures.number(entry[key]) for entry in a["steps"]}
    xs: list[float] = []
    ys: list[float | None] = []
    for entry in b["steps"]:
        if entry["step"] in before:
            one, other = before[entry["step"]], figures.number(entry[key])
            xs.append(float(entry["step"]))
            ys.append(None if one is None or other is None else other - one)
    return xs, ys


def _arrays(found: Comparison) -> list[tuple[str, Sequence[str], int]]:
    """Which arrays of the final states differ, and which one side alone holds; with how many."""
    states = found.parity.states
    if states is None:
        return []
    a, b = found.names
    listed = [("differ", states.differing), (f"only {a} has", states.only_a),
              (f"only {b} has", states.only_b)]  # fmt: skip
    return [(name, paths[:_ARRAYS], len(paths)) for name, paths in listed if paths]
