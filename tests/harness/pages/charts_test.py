import json
import re
from typing import Any

import numpy as np
import pytest

from harness.pages import charts, words
from harness.pages.charts import Series


def data(markup: str) -> Any:
    (text,) = re.findall(r"<script[^>]*>(.*?)</script>", markup)
    return json.loads(text)


def lines(*series: Series, unit: str = "") -> str:
    return charts.lines("title", series, "step", words.plain, unit)


def test_no_value_is_no_chart() -> None:
    assert lines() == ""
    assert lines(Series("a", [0.0, 1.0], [None, None])) == ""


def test_the_points_lie_where_they_should() -> None:
    drawn = lines(Series("a", [0.0, 1.0, 2.0], [0.0, 10.0, 5.0]))
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    assert points == "0.0,220.0 500.0,0.0 1000.0,110.0"
    assert data(drawn)["series"][0]["points"] == [[0.0, 1.0, 2.0], [0.0, 10.0, 5.0]]


def test_a_gap_stays_a_gap() -> None:
    drawn = lines(Series("a", [0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 2.0, None, 3.0, 4.0]))
    assert drawn.count("<polyline") == 2
    assert data(drawn)["series"][0]["points"][1][2] is None


def test_a_long_curve_keeps_its_extremes() -> None:
    values = np.random.default_rng(0).standard_normal(100_003)
    values[54_321], values[7] = 99.0, -99.0
    listed: list[float | None] = values.tolist()
    listed[100] = None
    drawn = lines(Series("a", [float(step) for step in range(len(listed))], listed))
    xs, ys = data(drawn)["series"][0]["points"]
    assert len(xs) <= 600
    assert xs == sorted(xs)
    assert (max(ys), min(ys)) == (99.0, -99.0)
    assert {54_321.0, 7.0} <= set(xs)


def test_times_far_apart_have_a_logarithmic_scale() -> None:
    waits = Series("a", [0.0, 1.0, 2.0], [0.07, 30.0, 0.0])
    assert data(lines(waits, unit="s"))["logarithmic"] is True
    assert data(lines(waits))["logarithmic"] is False
    assert "logarithmic scale" in lines(waits, unit="s")


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e99, -5.0])
def test_equal_values_have_a_scale_around_them(value: float) -> None:
    drawn = lines(Series("a", [0.0, 1.0], [value, value]))
    assert "nan" not in drawn
    assert drawn.count('class="grid"') > 1


def test_what_a_curve_is_called_stays_text() -> None:
    name = "</script><b>&\u2028"
    drawn = lines(Series(name, [0.0, 1.0], [1.0, 2.0], labels=[name, name]))
    assert "<b>" not in drawn
    assert "\u2028" not in drawn
    assert data(drawn)["series"][0]["name"] == "</script><b>&\ufffd"


def test_no_two_ticks_read_the_same() -> None:
    drawn = lines(Series("a", [0.0, 1.0], [3.7326, 3.7331]))
    ticks = re.findall(r'text-anchor="end">([^<]*)</text>', drawn)
    assert len(set(ticks)) == len(ticks) >= 4
    whole = lines(Series("a", [0.0, 11.0], [1.0, 2.0]))
    assert ">2.5<" not in whole[whole.index('y="238"') :]


def test_each_commit_has_one_label_and_the_newest_has_one() -> None:
    commits = ["old", "old", "new", "old", "new", "newest"]
    drawn = lines(Series("a", [float(n) for n in range(6)], [1.0] * 6, labels=commits))
    assert data(drawn)["ticks"] == [0.0, 2.0, 5.0]
    crowded = [f"commit-{n}" for n in range(40)]
    drawn = lines(Series("a", [float(n) for n in range(40)], [1.0] * 40, labels=crowded))
    assert 2 <= len(data(drawn)["ticks"]) <= 5
    assert data(drawn)["ticks"][-1] == 39.0
