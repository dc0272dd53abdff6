"""Two runs in turns: each pair of blocks as a point, and the interval of their ratio."""

from collections.abc import Sequence

from markupsafe import Markup

from harness.comparing.model import Comparison, Speed
from harness.pages import charts
from harness.pages.charts import Series
from harness.terminal.text import percent, times

_WIDTH, _HEIGHT = 150, 26
_ROOM = 3  # beyond the outermost points
_MOST = 120  # points of a small picture


def chart(found: Comparison) -> Markup:
    """The ratio of each pair of blocks in order of time; empty of runs that were not in turns."""
    speed, (a, b) = found.speed, found.names
    ratios = _ratios(speed)
    if speed.ratio is None or not ratios:
        return Markup("")
    places = [float(number) for number in range(len(ratios))]
    ends = [places[0], places[-1]]
    series = [Series("pairs of blocks", places, ratios)]
    bounds = (("from", speed.ratio.low), ("to", speed.ratio.high))
    series += [
        Series(f"interval {name} {times(bound)}", ends, [bound, bound], 1, dashed=True)
        for name, bound in bounds
        if bound is not None
    ]
    return charts.lines(f"Step time in turns, {b} to {a}", series, "pair of blocks", times)


def small(found: Comparison) -> Markup:
    """The same in a table: points, the interval as a band, a line where both are equal."""
    speed = found.speed
    ratios = _ratios(speed)[-_MOST:]
    if speed.ratio is None or not ratios:
        return Markup("")
    low, high = speed.ratio.low, speed.ratio.high
    told = percent(speed.ratio.value)
    known = [bound for bound in (low, high) if bound is not None]
    bottom, top = min([1.0, *known, *ratios]), max([1.0, *known, *ratios])

    def height(ratio: float) -> float:
        return _HEIGHT - _ROOM - (_HEIGHT - 2 * _ROOM) * (ratio - bottom) / ((top - bottom) or 1.0)

    drawn = Markup("")
    if low is not None and high is not None:
        told += f" ({percent(low)} to {percent(high)})"
        drawn += Markup('<rect class="interval" width="100%" y="{:.1f}" height="{:.1f}"/>').format(
            height(high), max(1.0, height(low) - height(high))
        )
    drawn += Markup('<line class="grid" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(height(1.0))
    across = (_WIDTH - 2 * _ROOM) / max(1, len(ratios) - 1)
    points = "".join(
        f"M{_ROOM + across * number:.1f} {height(ratio):.1f}h0"
        for number, ratio in enumerate(ratios)
    )
    drawn += Markup('<path class="s0" d="{}"/>').format(points)
    return Markup(
        '<svg class="turns" role="img" aria-label="step time in turns: {}" width="{}" height="{}">'
        "{}</svg><small>in turns: {}</small>"
    ).format(told, _WIDTH, _HEIGHT, drawn, told)


def _ratios(speed: Speed) -> Sequence[float]:
    return [b / a for a, b in zip(*speed.blocks, strict=True)] if speed.by == "turns" else []
