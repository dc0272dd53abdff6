from pathlib import Path

from compared_records import imported, make, write
from report_site import run

from harness.pages import gathering, overview
from harness.pages.sources import Run


def test_each_case_has_a_row_with_the_verdicts_of_its_twins(tmp_path: Path) -> None:
    write(tmp_path, run("a-linen", "linen", 1))
    write(tmp_path, run("a-nnx", "nnx", 2))
    for impl in ("linen", "nnx"):
        write(tmp_path, run(f"{impl}-compiled", impl, 3) | {"status": "preflight"})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text("no record")
    page = overview.page("index.html", gathering.gather([tmp_path]))
    for text in ("03_dropout", "01_baseline", "full, 32 x TPU v6 lite", "bit-equal"):
        assert text in page
    assert "fits, one program" in page
    assert "skipped" in page


def test_the_figures_of_a_document_are_found_by_their_names() -> None:
    told = imported(run_id="told")
    told["source"] = {"figures": [{"figure": "final loss", "value": 1.0}]}
    found = overview.figures_of(Run(told, "", None))
    assert found["final loss"]["value"] == 1.0
    assert overview.figures_of(Run(make(), "", None)) == {}
