"""The pictures of turns: a point for each pair of blocks, and the interval of their ratio."""

from compared_records import in_turns, make

from harness.comparing import comparison
from harness.pages import turns
from harness.terminal.text import times


def test_a_small_picture_has_every_pair_and_the_interval_as_a_band() -> None:
    a, b = in_turns(1.2, pairs=20)
    found = comparison.compare([a], [b])
    drawn = turns.small(found)
    assert drawn.count("h0") == 20
    assert drawn.count('class="interval"') == 1
    assert "in turns: +2" in drawn
    assert found.speed.in_turns is not None
    assert "style=" not in drawn


def test_the_chart_tells_the_bounds_of_the_interval() -> None:
    a, b = in_turns(1.2, pairs=20)
    found = comparison.compare([a], [b])
    ratio = found.speed.ratio
    assert ratio is not None
    chart = turns.chart(found)
    assert "Step time in turns, nnx to linen" in chart
    assert f"interval from {times(ratio.low or 0)}" in chart
    assert f"interval to {times(ratio.high or 0)}" in chart


def test_few_pairs_have_points_and_no_interval() -> None:
    a, b = in_turns(1.2, pairs=4)
    drawn = turns.small(comparison.compare([a], [b]))
    assert drawn.count("h0") == 4
    assert 'class="interval"' not in drawn


def test_runs_that_were_not_in_turns_have_no_picture() -> None:
    found = comparison.compare([make()], [make()])
    assert (turns.small(found), turns.chart(found)) == ("", "")
