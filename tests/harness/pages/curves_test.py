from compared_records import make

from harness.pages import curves
from harness.pages.sources import Run


def run(run_id: str, impl: str, steps: int = 5) -> Run:
    made = make(impl=impl, run_id=run_id)
    made["steps"] = made["steps"][:steps]
    return Run(made, run_id, None)


def test_each_quantity_has_a_chart_with_a_curve_for_each_run() -> None:
    drawn = curves.charts_of([run("one", "linen"), run("two", "nnx")], "group")
    assert len(drawn) == 3
    for chart, title in zip(drawn, ("Loss", "Step time", "Gradient norm"), strict=True):
        assert title in chart
        assert "one" in chart
        assert "two" in chart
    alone = curves.charts_of([run("one", "linen")], "group")
    assert alone[0].count("dashed") < drawn[0].count("dashed")
    assert len(curves.charts_of([run("one", "linen")], "group", all_kinds=False)) == 2


def test_a_run_of_one_step_has_no_curve() -> None:
    assert curves.charts_of([run("one", "linen", steps=1)], "group") == []


def test_the_newest_runs_are_kept_when_there_are_many() -> None:
    drawn = curves.charts_of([run(f"run{n:02}", "linen") for n in range(curves.MOST + 2)], "g")
    assert "run01" not in drawn[0]
    assert "run02" in drawn[0]
