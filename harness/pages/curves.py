"""The curves of runs over their steps, several in one chart."""

from collections.abc import Sequence

from markupsafe import Markup

from harness.pages import charts, words
from harness.pages.charts import Series
from harness.pages.sources import Run
from harness.records import figures

MOST = charts.COLOURS  # runs in one chart: each has its own colour
_CHARTS = (
    ("Loss", "loss", words.plain, ""),
    ("Step time", "step_seconds", words.seconds, "s"),
    ("Gradient norm", "grad_norm", words.plain, ""),
)


def charts_of(
    runs: Sequence[Run], group: str, all_kinds: bool = True, dashed: str = "nnx"
) -> list[Markup]:
    """Loss and step time over the steps, and the gradient norm with `all_kinds`.

    One implementation is dashed, so that curves that lie on each other can both be seen.
    """
    shown = [run for run in runs if len(run.record["steps"]) > 1][-MOST:]
    drawn = []
    for title, key, form, unit in _CHARTS if all_kinds else _CHARTS[:2]:
        series = []
        for colour, run in enumerate(shown):
            steps = run.record["steps"]
            xs = [figures.number(entry["step"]) or 0.0 for entry in steps]
            ys = [figures.number(entry[key]) for entry in steps]
            series.append(Series(run.short, xs, ys, colour, run.impl == dashed))
        drawn.append(charts.lines(title, series, "step", form, unit, group))
    return [chart for chart in drawn if chart]
