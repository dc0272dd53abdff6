from pathlib import Path

from compared_records import write
from report_site import run

from harness.pages import gathering, history_page


def test_completed_runs_have_points_labelled_with_their_commits(tmp_path: Path) -> None:
    for hour, impl in enumerate(("linen", "nnx", "linen")):
        write(tmp_path, run(f"run-{hour}", impl, hour))
    write(tmp_path, run("failed", "nnx", 9) | {"status": "failed"})
    page = history_page.page("history.html", gathering.gather([tmp_path]))
    for title in ("Median step", "Memory compiled for", "Final loss"):
        assert title in page
    assert "1111111" in page
    assert "run-2" in page
    assert "failed.html" not in page


def test_without_completed_runs_there_is_no_section(tmp_path: Path) -> None:
    page = history_page.page("history.html", gathering.gather([tmp_path]))
    assert "Median step" not in page


def test_one_run_of_each_is_listed_and_draws_no_line(tmp_path: Path) -> None:
    for hour, impl in enumerate(("linen", "nnx")):
        write(tmp_path, run(f"only-{impl}", impl, hour))
    page = history_page.page("history.html", gathering.gather([tmp_path]))
    assert "A line needs two." in page
    assert "only-nnx" in page
    assert "Median step" not in page
