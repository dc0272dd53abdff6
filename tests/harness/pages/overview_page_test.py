from pathlib import Path

from compared_records import imported, make, write
from report_site import run

from harness.pages import gathering, overview_page
from harness.pages.sources import Run


def test_each_case_has_a_row_with_the_verdicts_of_its_twins(tmp_path: Path) -> None:
    write(tmp_path, run("a-linen", "linen", 1))
    write(tmp_path, run("a-nnx", "nnx", 2))
    for impl in ("linen", "nnx"):
        write(tmp_path, run(f"{impl}-compiled", impl, 3) | {"status": "preflight"})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text("no record")
    page = overview_page.page("index.html", gathering.gather([tmp_path]))
    for text in ("03_dropout", "01_baseline", "full, 32 x TPU v6 lite", "bit-equal"):
        assert text in page
    assert "one program" in page
    assert "1 of 1" in page
    assert "skipped" in page


def test_the_figures_of_a_document_are_found_by_their_names() -> None:
    told = imported(run_id="told")
    told["source"] = {"figures": [{"figure": "final loss", "value": 1.0}]}
    found = overview_page.figures_of(Run(told, "", None))
    assert found["final loss"]["value"] == 1.0
    assert overview_page.figures_of(Run(make(), "", None)) == {}


def test_repeats_are_one_experiment_and_the_newest_experiment_comes_first(tmp_path: Path) -> None:
    for hour in range(15):
        write(tmp_path, run(f"again-{hour}", ("linen", "nnx")[hour % 2], hour))
    other = run("later", "nnx", 20)
    other["environment"]["device_count"] = 8
    write(tmp_path, other)
    found = overview_page.experiments(gathering.gather([tmp_path]))
    assert [len(one.group.runs) for one in found] == [1, 15]
    assert [run.record["run_id"] for run in found[1].newest][:2] == ["again-14", "again-13"]
    page = overview_page.page("index.html", gathering.gather([tmp_path]))
    assert page.count('<article class="experiment">') == 2
    assert "15 runs, the newest 10" in page
    assert "again-4<" not in page


def test_a_line_is_of_one_family_and_tells_the_full_size_first(tmp_path: Path) -> None:
    for impl in ("linen", "nnx"):
        write(tmp_path, run(f"full-{impl}", impl, 1))
        tiny = run(f"tiny-{impl}", impl, 2) | {"size": "tiny"}
        tiny["checkpoint"]["saves"] = []
        write(tmp_path, tiny)
        mine = run(f"mine-{impl}", impl, 3)
        mine["case"]["config"] |= {"twins": "mine.pair"}
        write(tmp_path, mine)
    families = overview_page._families(gathering.gather([tmp_path]))
    assert list(families) == ["decoder", "mine.pair", "honeycrisp", "gpt"]
    (line,) = [line for case, line in families["decoder"] if case.name == "03_dropout"]
    assert (line.where, line.answer.words) == ("full, 32 x TPU v6 lite", "the same")
    assert [(where, one.words) for where, one in line.others] == [
        ("tiny, 32 x TPU v6 lite", "no difference found; open: checkpoints")
    ]
    write(tmp_path, run("broken", "nnx", 9) | {"status": "failed"})
    again = overview_page._families(gathering.gather([tmp_path]))["decoder"]
    told = {case.name: line.where for case, line in again}
    assert told["03_dropout"] == "full, 32 x TPU v6 lite; its newest run failed"
    assert families["gpt"][0][1].answer.about == "not run here yet"


def test_what_ran_comes_before_what_did_not(tmp_path: Path) -> None:
    for impl in ("linen", "nnx"):
        mine = run(f"mine-{impl}", impl)
        mine["case"] |= {"name": "mine", "config": mine["case"]["config"] | {"twins": "mine"}}
        write(tmp_path, mine)
    families = overview_page._families(gathering.gather([tmp_path]))
    assert list(families) == ["mine", "decoder", "honeycrisp", "gpt"]
