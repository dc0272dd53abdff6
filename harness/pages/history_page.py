"""Figures of every case over commits."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from harness.pages import charts, rendering, words
from harness.pages.charts import Series
from harness.pages.gathering import Collection, Group
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record
from harness.terminal.text import size

_MOST = 300  # runs of one chart: the newest
_METRICS: tuple[tuple[str, Callable[[Record], float | None], Callable[[float], str], str], ...] = (
    ("Median step", figures.step_seconds, words.seconds, "s"),
    ("Memory compiled for", lambda content: figures.number(content["memory"]["total_bytes"]),
     size, "bytes"),
    ("Final loss", figures.last_loss, words.plain, ""),
)  # fmt: skip


def page(name: str, collection: Collection) -> str:
    """The page: completed runs in the order of their time, each labelled with its commit."""
    known = [
        {"case": case, "group": group, "charts": _charts(group, runs), "runs": runs}
        for case in collection.cases
        for group in case.groups
        for runs in [[run for run in group.runs if run.record["status"] == "completed"][-_MOST:]]
        if runs
    ]
    return rendering.render(
        "history.html.jinja",
        name,
        has_charts=True,
        title="History",
        sections=[one for one in known if one["charts"]],
        single=[one for one in known if not one["charts"]],
        most=_MOST,
    )


def _charts(group: Group, runs: list[Run]) -> list[Markup]:
    """A chart of each figure that two runs of one implementation know: one point is no line."""
    drawn = []
    for title, read, form, unit in _METRICS:
        series = [_series(impl, colour, runs, read) for colour, impl in enumerate(group.names)]
        if any(sum(y is not None for y in one.ys) > 1 for one in series):
            drawn.append(charts.lines(title, series, "commit, oldest first", form, unit))
    return drawn


def _series(
    impl: str, colour: int, runs: list[Run], read: Callable[[Record], float | None]
) -> Series:
    own: list[tuple[Any, float | None, str]] = [
        (float(place), read(run.record), run.commit)
        for place, run in enumerate(runs)
        if run.impl == impl
    ]
    return Series(
        impl,
        [place for place, _, _ in own],
        [found for _, found, _ in own],
        colour,
        bool(colour),
        [commit for _, _, commit in own],
    )
