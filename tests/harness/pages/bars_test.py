"""Bars of pieces, in SVG."""

import re

from harness.pages import bars
from harness.pages.bars import Bar, Piece


def test_bars_share_one_scale() -> None:
    rows = [
        Bar("a", [Piece("k0", 0.0, 1.0, "one"), Piece("k1", 1.0, 3.0, "three")]),
        Bar("b", [Piece("k0", 0.0, 2.0, "two")], mark=Piece("peak", 3.0, 0.0, "peak")),
    ]
    drawn = bars.draw("title", rows, (("k0", "first"), ("k1", "second"), ("k2", "third")))
    widths = re.findall(r' width="([0-9.]+)%" height="100%"><title>', drawn)
    assert widths == ["25.000", "75.000", "50.000"]
    assert 'x1="75.000%"' in drawn
    assert "second" in drawn
    assert "third" not in drawn
    assert bars.draw("title", [], ()) == ""


def test_what_a_bar_is_called_stays_text() -> None:
    drawn = bars.draw("t", [Bar("<b>", [Piece("k0", 0.0, 1.0, "<i>&")], "<u>")], ())
    assert not {"<b>", "<i>", "<u>"} & set(re.findall(r"<[biu]>", drawn))
    assert "&lt;b&gt;" in drawn


def test_a_scale_tells_its_end() -> None:
    drawn = bars.draw("t", [Bar("a", [Piece("k0", 0.0, 4.0, "")])], (), lambda end: f"{end:g} s")
    assert "<span>0</span><span>4 s</span>" in drawn
