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
    sections = [
        {"case": case, "group": group, "charts": drawn, "runs": runs}
        for case in collection.cases
        for group in case.groups
        for runs in [[run for run in group.runs if run.record["status"] == "completed"][-_MOST:]]
        for drawn in [_charts(group, runs)]
        if drawn
    ]
    return rendering.render(
        "history.html.jinja",
        name,
        has_charts=True,
        title="History",
        sections=sections,
        most=_MOST,
        step_seconds=figures.step_seconds,
        last_loss=figures.last_loss,
    )


def _charts(group: Group, runs: list[Run]) -> list[Markup]:
    drawn = []
    for title, read, form, unit in _METRICS:
        series = [_series(impl, colour, runs, read) for colour, impl in enumerate(group.names)]
        drawn.append(charts.lines(title, series, "run, oldest first", form, unit))
    return [chart for chart in drawn if chart]


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
