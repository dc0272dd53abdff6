from xml.etree import ElementTree

import pytest
from compared_records import changed, make

from harness.comparing import badge, comparison
from harness.records.record import Record

SVG = "{http://www.w3.org/2000/svg}"


def drawn(a: Record, b: Record) -> tuple[str, set[str | None], float, list[str | None]]:
    """The title, the colours, the width, and the texts of a badge."""
    root = ElementTree.fromstring(badge.badge(comparison.compare([a], [b])))
    texts = [one.text for one in root.iter(f"{SVG}text")]
    colours = {one.get("fill") for one in root.iter(f"{SVG}path")}
    return root.findtext(f"{SVG}title") or "", colours, float(root.get("width") or 0), texts


def test_two_that_are_the_same_are_green() -> None:
    title, colours, width, texts = drawn(make(run_id="one"), make(run_id="two") | {"impl": "nnx"})
    assert texts == ["nnx and linen", "the same"]
    assert title == "nnx and linen: the same"
    assert colours == {"#2e7d32"}
    assert 130 < width < 190


@pytest.mark.parametrize("name", ["<b>&\"'", "nnx"])
def test_what_is_not_comparable_is_grey_and_names_are_texts(name: str) -> None:
    title, colours, _, texts = drawn(make(), changed("size", "tiny") | {"impl": name})
    assert texts == [f"{name} and linen", "not comparable"]
    assert title == f"{name} and linen: not comparable"
    assert colours == {"#57606a"}
