from pathlib import Path

from compared_records import imported, make, write

from harness.pages import run_page
from harness.pages.sources import Run
from harness.records import figures


def test_every_figure_of_the_record_is_there_with_its_meaning(tmp_path: Path) -> None:
    made = make(run_id="a-run")
    folder = write(tmp_path, made)
    (folder / "log.txt").write_text("compile ...\nwarning: one\n")
    page = run_page.page(Run(made, "runs/a-run.html", folder), None)
    for text in ("a-run", "1,104,218,112", "warning: one", "linen"):
        assert text in page
    assert page.count("<tr><td>") >= 33


def test_parts_of_parts_have_their_path_as_key() -> None:
    rows = {row["key"]: row for row in run_page._rows(make(), "timing")}
    assert rows["step_seconds.samples"]["value"] == 30
    assert rows["step_seconds.median"]["unit"] == "step_seconds"
    assert any(row["about"] for row in rows.values())


def test_a_metric_of_the_familys_own_has_a_column() -> None:
    steps = [{**entry, "accuracy": 0.5 if entry["step"] else None} for entry in make()["steps"][:3]]
    assert run_page._metrics(steps) == ["accuracy"]
    rows = run_page._step_rows(steps, ["accuracy"])
    assert rows.count("<td>0.5") == 2
    assert rows.count("<tr>") == 3


def test_of_a_long_run_the_first_and_the_last_steps_are_shown() -> None:
    made = make(run_id="long")
    made["steps"] = [{**made["steps"][5], "step": number} for number in range(1200)]
    page = run_page.page(Run(made, "runs/long.html", None), None)
    assert page.count("<tr><td>") >= 1000
    assert "<tr><td>499<" in page
    assert "<tr><td>500<" not in page
    assert "<tr><td>700<" in page


def test_what_was_only_compiled_shows_what_a_compilation_knows() -> None:
    made = make(run_id="compiled") | {"status": "preflight", "steps": []}
    made["timing"] |= dict.fromkeys(made["timing"]) | {"compile_seconds": 40.0}
    made["timing"]["step_seconds"] = figures.summarise([])
    made["prediction"] |= {"step_seconds": 0.07, "cycles_by_part": {"mlp": 7.5e6, "norm": 2.5e6}}
    made["memory"]["capacity_bytes"] = 2 * made["memory"]["total_bytes"]
    page = run_page.page(Run(made, "runs/compiled.html", None), None)
    for text in ("compiled for v6e-32", "6.250 GB", "7.5 million cycles, 75 %", "50 %"):
        assert text in page
    for text in ("No result", "not known", "No log lies", "final loss", "tokens/s"):
        assert text not in page
    assert "<title>compiled, 03_dropout, linen, v6e-32" in page


def test_what_a_document_does_not_tell_is_left_out() -> None:
    told = imported(run_id="told") | {"steps": []}
    for section in ("timing", "memory"):
        told[section] = dict.fromkeys(told[section])
    told["timing"]["step_seconds"] = figures.summarise([])
    told["program"]["compiler_options"] = {"xla_tpu_enable_async_all_gather": True}
    told["source"] = Run(told, "", None).source | {"kind": "AXLearn configuration"}
    page = run_page.page(Run(told, "runs/told.html", None), None)
    assert "xla_tpu_enable_async_all_gather" in page
    for text in (
        "not known",
        "No result",
        "No log lies",
        "median step",
        "Timing, every",
        "Memory, every",
    ):
        assert text not in page
