from pathlib import Path

from compared_records import in_turns, make, other
from report_site import Page

from harness import hlo
from harness.comparing import comparison
from harness.pages import comparison_page
from harness.terminal.text import clauses

HLO = """HloModule step

ENTRY %main (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %y = f32[4]{{0}} {0}(%x, %x), metadata={{source_file="/at/home/models/{0}.py" source_line=7}}
}}
"""


def shown(tmp_path: Path, text: str) -> Page:
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    return Page(tmp_path / "page.html")


def test_a_comparison_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    a, b = in_turns(1.2, names=("a", "b"))
    found = comparison.compare([a], [b])
    page = shown(tmp_path, comparison_page.page(found))
    assert "<title>03_dropout: nnx against linen" in page.source
    assert set(page.links()) == {"#content"}
    assert "Step time in turns, nnx to linen" in page.source
    assert "Where the numbers part" not in page.text
    for verdict in found.verdicts:
        assert all(part in page.text for part in clauses(verdict.words))
    assert page.text.count("worse") >= 1


def test_it_shows_where_numbers_part_and_which_lines_wrote_what_differs(tmp_path: Path) -> None:
    a, b = make(), other(impl="nnx")
    b["steps"][4]["loss"] += 0.5
    a["checkpoint"]["digests"] = {"params/w": "1", "params/b": "1"}
    b["checkpoint"] |= {"digest": "e" * 64, "digests": {"params/w": "2", "params/b": "1"}}
    programs = hlo.parse(HLO.format("add")), hlo.parse(HLO.format("multiply"))
    page = shown(tmp_path, comparison_page.page(comparison.compare([a], [b], programs=programs)))
    assert "not the same numbers" in page.text
    assert "Difference of the losses" in page.source
    assert "Difference of the gradient norms" not in page.source
    assert "1 array of the final states: differ" in page.text
    assert "1 x, 16 bytes" in page.text
    assert "home/models/add.py:7" in page.text
    assert "home/models/multiply.py:7" in page.text


def test_runs_that_are_not_comparable_are_said_to_be(tmp_path: Path) -> None:
    small = make(impl="nnx") | {"size": "tiny"}
    page = shown(tmp_path, comparison_page.page(comparison.compare([make()], [small])))
    assert "not comparable" in page.text
    assert "ratio" not in page.text
