from pathlib import Path

from compared_records import write
from report_site import run

from harness.pages import gathering, runs_page


def test_every_run_is_there_once_below_its_experiment(tmp_path: Path) -> None:
    for number, status in enumerate(("completed", "completed", "preflight", "imported")):
        write(tmp_path, run(f"run-{number}", "nnx", number) | {"status": status})
    caseless = run("caseless", "nnx", 5)
    caseless["case"]["name"] = None
    write(tmp_path, caseless)
    page = runs_page.page("runs.html", gathering.gather([tmp_path]))
    for run_id in ("run-0", "run-1", "run-2", "run-3", "caseless"):
        assert page.count(f">{run_id}</a>") == 1
    assert "full, 32 x TPU v6 lite <small>2 runs" in page
    assert page.index(">run-1<") < page.index(">run-0<")


def test_without_runs_it_says_so(tmp_path: Path) -> None:
    assert "nothing was run yet" in runs_page.page("runs.html", gathering.gather([tmp_path]))
