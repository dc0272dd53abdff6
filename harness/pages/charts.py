"""Curves as SVG that can be read without scripts; their data goes along for zoom and hover."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from harness.pages import words
from harness.pages.words import clean

COLOURS = 8  # in style.css
_POINTS = 600  # of one curve
_MARKED = 80  # points that are marked one by one
_HEIGHT = 220
_TICKS = 5
_LONG = 9  # letters of a tick that a chart has room for
_LABEL = 0.3  # of the width that a label takes
_WIDE_RANGE = 30.0  # of times that share no linear scale


@dataclass(frozen=True)
class Series:
    """A curve. None in `ys` is a gap; labels: of the points, where numbers do not say enough."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: int = 0
    dashed: bool = False
    labels: Sequence[str] = ()


def lines(
    title: str,
    series: Sequence[Series],
    x_name: str,
    form: Callable[[float], str],
    unit: str = "",
    group: str = "",
) -> Markup:
    """Curves over a common axis; empty where no series has a value.

    form: how a value reads on the server's picture; unit: of the values in the data; charts of one
    group share their cursor.
    """
    curves = [_thinned(one) for one in series]
    values = [y for one in curves for y in one.ys if y is not None]
    if not values:
        return Markup("")
    xs = [x for one in curves for x in one.xs]
    positive = [y for y in values if y > 0]
    wide = unit == "s" and bool(positive) and max(positive) > _WIDE_RANGE * min(positive)
    vertical = _Axis(positive if wide else values, wide, unit == "bytes")
    told = [form(tick) for tick in vertical.ticks] if wide else words.alike(vertical.ticks, unit)
    across = _Span(min(xs), max(xs))
    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="-8" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for tick, text in zip(vertical.ticks, told, strict=True)
        for y in [_HEIGHT * (1 - vertical.at(tick))]
    ]
    labels = {x: label for one in curves for x, label in zip(one.xs, one.labels, strict=False)}
    labelled = _labelled(labels, across)
    parts += _x_labels(across, labels, labelled)
    parts.append(
        f'<svg class="curves" viewBox="0 0 1000 {_HEIGHT}" preserveAspectRatio="none"'
        f' width="100%" height="{_HEIGHT}">'
    )
    for one in curves:
        dashed = " dashed" if one.dashed else ""
        for run in _unbroken(one, vertical, across):
            points = " ".join(f"{1000 * x:.1f},{_HEIGHT * (1 - y):.1f}" for x, y in run)
            parts.append(f'<polyline class="s{one.colour}{dashed}" points="{points}"/>')
    parts.append("</svg>")
    marked = sum(len(one.xs) for one in curves) <= _MARKED
    if marked:
        for one in curves:
            parts += _marks(one, vertical, across, x_name, form)
    data = {"x": x_name, "unit": unit, "logarithmic": wide, "group": group, "marked": marked,
            "ticks": labelled}  # fmt: skip
    return _figure(title, curves, "".join(parts), data, max(map(len, told)) > _LONG)


def _figure(
    title: str,
    curves: Sequence[Series],
    drawing: str,
    data: dict[str, Any],
    long: bool,
) -> Markup:
    data = data | {
        "series": [
            {
                "name": clean(one.name, 80),
                "colour": one.colour,
                "dashed": one.dashed,
                "points": [list(one.xs), list(one.ys)],
                "labels": [clean(text, 80) for text in one.labels],
            }
            for one in curves
        ],
    }
    legend = Markup("").join(
        Markup('<li><svg class="swatch" aria-hidden="true"><line class="s{}{}" x1="0" x2="100%"'
               ' y1="50%" y2="50%"/></svg>{}</li>').format(
            one.colour, " dashed" if one.dashed else "", clean(one.name, 80)
        )
        for one in curves
    )  # fmt: skip
    scale = ", logarithmic scale" if data["logarithmic"] else ""
    return Markup(
        '<figure class="chart"><figcaption>{title}<small>by {x_name}{scale}</small>'
        '</figcaption><div class="plot{wide}"><svg class="drawn" role="img" aria-label="{title}"'
        ' width="100%" height="{height}">{drawing}</svg></div>'
        '<ul class="legend">{legend}</ul>{island}</figure>'
    ).format(
        title=title,
        x_name=data["x"],
        scale=scale,
        wide=" wide" if long else "",
        height=_HEIGHT + 24,
        drawing=Markup(drawing),
        legend=legend,
        island=island(data),
    )


def island(data: object) -> Markup:
    """Data for scripts, as JSON in which nothing can end the element or begin another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup('<script type="application/json">{}</script>').format(Markup(text))


class _Span:
    """A range of numbers, of which `at` tells the place of each from 0 to 1."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def at(self, value: float) -> float:
        if self.high == self.low:
            return 0.5
        return (value - self.low) / (self.high - self.low)


class _Axis:
    """The vertical scale: round numbers around the values."""

    def __init__(self, values: Sequence[float], logarithmic: bool, binary: bool) -> None:
        self._logarithmic = logarithmic
        low, high = min(values), max(values)
        if logarithmic:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            every = max(1, math.ceil((last - first) / _TICKS))
            self.ticks = [10.0**exponent for exponent in range(first, last + 1, every)]
            self._span = _Span(first, last)
            return
        if low == high:
            room = abs(low) / 10 or 1.0
            low, high = low - room, high + room
        rough = (high - low) / (_TICKS - 1)
        step = 2.0 ** math.ceil(math.log2(rough)) if binary else _round_step(rough)
        first, last = math.floor(low / step), math.ceil(high / step)
        self.ticks = [number * step for number in range(first, last + 1)]
        self._span = _Span(first * step, last * step)

    def at(self, value: float) -> float:
        """The place of a value, from 0 at the bottom to 1."""
        return self._span.at(math.log10(value) if self._logarithmic else value)

    def holds(self, value: float | None) -> bool:
        """Whether the scale has a place for it."""
        return value is not None and (value > 0 or not self._logarithmic)


def _round_step(rough: float, nice: Sequence[float] = (1, 2, 2.5, 5, 10)) -> float:
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(scale * one for one in nice if rough <= scale * one * 1.0001)


def _labelled(labels: dict[float, str], across: _Span) -> list[float]:
    """Where each label begins, the newest first, and as many as have room beside each other."""
    first: dict[str, float] = {}
    for x in sorted(labels):
        first.setdefault(labels[x], x)
    kept: list[float] = []
    for x in sorted(first.values(), reverse=True):
        if not kept or across.at(kept[-1]) - across.at(x) >= _LABEL:
            kept.append(x)
    return kept[::-1]


def _x_labels(across: _Span, labels: dict[float, str], changes: Sequence[float]) -> list[str]:
    if across.low == across.high:
        ticks = [across.low]
    elif labels:
        ticks = list(changes)
    else:
        step = max(1.0, _round_step((across.high - across.low) / _TICKS, (1, 2, 5, 10)))
        first = math.ceil(across.low / step)
        ticks = [n * step for n in range(first, math.floor(across.high / step) + 1)]
    anchors = {0.0: "start", 1.0: "end"}
    return [
        f'<text class="tick" x="{100 * place:.2f}%" y="{_HEIGHT + 18}"'
        f' text-anchor="{anchors.get(place, "middle")}">'
        f"{escape(clean(labels.get(tick, words.plain(tick)), 12))}</text>"
        for tick in ticks
        for place in [across.at(tick)]
    ]


def _unbroken(one: Series, vertical: _Axis, across: _Span) -> list[list[tuple[float, float]]]:
    """The stretches of a curve without gaps, in places from 0 to 1."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(one.xs, one.ys, strict=True):
        if y is not None and vertical.holds(y):
            runs[-1].append((across.at(x), vertical.at(y)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _marks(
    one: Series, vertical: _Axis, across: _Span, x_name: str, form: Callable[[float], str]
) -> list[str]:
    labels = [*one.labels, *[""] * (len(one.xs) - len(one.labels))]
    return [
        f'<circle class="s{one.colour}" cx="{100 * across.at(x):.2f}%"'
        f' cy="{_HEIGHT * (1 - vertical.at(y)):.1f}" r="2.5"><title>{escape(clean(one.name, 80))},'
        f" {escape(clean(label, 80)) if label else f'{escape(x_name)} {words.plain(x)}'}:"
        f" {escape(form(y))}</title></circle>"
        for x, y, label in zip(one.xs, one.ys, labels, strict=True)
        if y is not None and vertical.holds(y)
    ]


def _thinned(one: Series) -> Series:
    """At most `_POINTS` points: the lowest and the highest of each stretch stay."""
    if len(one.xs) <= _POINTS or one.labels:
        return one
    known = np.array([math.nan if y is None else y for y in one.ys])
    stretch = -(-len(known) // (_POINTS // 2))
    table = np.pad(known, (0, -len(known) % stretch), constant_values=math.nan)
    table = table.reshape(-1, stretch)
    starts = np.arange(len(table)) * stretch
    lowest = starts + np.where(np.isnan(table), math.inf, table).argmin(axis=1)
    highest = starts + np.where(np.isnan(table), -math.inf, table).argmax(axis=1)
    kept = sorted({*lowest.tolist(), *highest.tolist()})
    return Series(
        one.name,
        [one.xs[index] for index in kept],
        [one.ys[index] for index in kept],
        one.colour,
        one.dashed,
    )
