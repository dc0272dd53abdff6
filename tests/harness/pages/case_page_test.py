from pathlib import Path

from compared_records import write
from report_site import run

from harness.pages import case_page, gathering
from harness.pages.gathering import Case


def gathered(folder: Path, name: str = "03_dropout") -> Case:
    (case,) = [case for case in gathering.gather([folder]).cases if case.name == name]
    return case


def test_a_case_shows_its_comparison_and_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, run("a-linen", "linen", 1))
    write(tmp_path, run("a-nnx", "nnx", 2, seed=1, scale=1.2))
    other = gathered(tmp_path, "01_baseline")
    page = case_page.page(gathered(tmp_path), other, None)
    assert "the same: one program" in page
    assert "is slower than" not in page
    for text in ("Loss", "Memory of one device", "a-nnx", "01_baseline"):
        assert text in page


def test_of_many_older_runs_the_compared_ones_are_kept(tmp_path: Path) -> None:
    for hour in range(12):
        write(tmp_path, run(f"old-{hour}", "linen", hour))
    write(tmp_path, run("new-linen", "linen", 20))
    write(tmp_path, run("new-nnx", "nnx", 21))
    (group,) = gathered(tmp_path).groups
    shown = [one for one in group.runs if one.record["run_id"].startswith("new")]
    kept = case_page._interleaved(group, shown)
    assert kept[-2:] == shown
    assert len(kept) <= 8


def test_ways_across_jit_are_shown_where_there_is_more_than_one(tmp_path: Path) -> None:
    write(tmp_path, run("plain", "nnx", 1) | {"nnx_state": "dict"})
    (group,) = gathered(tmp_path).groups
    assert case_page._crossings(group) == []
    write(tmp_path, run("objects", "nnx", 2) | {"nnx_state": "jit"})
    (group,) = gathered(tmp_path).groups
    assert [words for words, _ in case_page._crossings(group)] == [
        "plain trees, jax.jit",
        "model and nnx.Optimizer, nnx.jit",
    ]
