from pathlib import Path
from typing import Any

from compared_records import write
from report_site import run

from harness.pages import case_page, gathering, programs_page
from harness.pages.gathering import Case


def gathered(folder: Path, *sides: tuple[str, str, str, int]) -> Case:
    """Compilations of a case: implementation, recipe, fingerprint, all-gathers."""
    for number, (impl, recipe, fingerprint, count) in enumerate(sides):
        made: Any = run(f"compiled-{number}", impl) | {"status": "preflight", "steps": []}
        made |= {"recipe": recipe}
        made["timing"]["step_seconds"] = dict.fromkeys(made["timing"]["step_seconds"])
        made["program"]["optimized_sha256"] = fingerprint * 64
        made["program"]["collectives"] = {"all-gather": {"count": count, "bytes": 6.25e9}}
        made["prediction"] |= {"cycles_by_part": {"mlp": 6e6 + number, "norm": 2e6}}
        made["prediction"] |= {"step_seconds": 0.07, "caution": "the wire is unchecked"}
        write(folder, made)
    (case,) = [case for case in gathering.gather([folder]).cases if case.name == "03_dropout"]
    return case


def test_two_programs_stand_beside_each_other(tmp_path: Path) -> None:
    case = gathered(tmp_path, ("linen", "reference", "a", 16), ("nnx", "reference", "b", 18))
    page = programs_page.page(case)
    assert "v6e-32: linen and nnx" in page
    row = page[page.index('<th scope="row">all-gather</th>') :]
    assert row.index(">16<") < row.index(">18<") < row.index("</tr>")
    assert "linen: 6 million cycles" in page
    assert "How the programs differ: " in page
    assert page.count("the wire is unchecked") == page.count("~<data") == 2


def test_one_program_is_shown_once_and_recipes_beside_each_other(tmp_path: Path) -> None:
    recipes = {"reference": "a", "fast": "f"}
    compiled = [(impl, recipe, fingerprint, 16) for recipe, fingerprint in recipes.items()
                for impl in ("linen", "nnx")]  # fmt: skip
    page = programs_page.page(gathered(tmp_path, *compiled))
    assert "linen and nnx are one program" in page
    assert page.count('<th scope="row">all-gather</th>') == 1
    assert "reference: 6 million cycles" in page
    assert "fast: 6 million cycles" in page


def ran(folder: Path, *fingerprints: str) -> Case:
    """Both sides of a pair of a user's own, run once each."""
    for impl, fingerprint, tflop in zip(("linen", "nnx"), fingerprints, (0.5, 2.0), strict=True):
        made: Any = run(f"ran-{impl}", impl)
        made["case"]["config"]["twins"] = "mine.pair"
        made["program"] |= {"optimized_sha256": fingerprint * 64, "fusion_cycles": None}
        made["program"] |= {"tflop_by_part": {"mlp": tflop, "head": 0.25}}
        write(folder, made)
    (case,) = [case for case in gathering.gather([folder]).cases if case.groups]
    return case


def test_programs_that_ran_stand_beside_each_other(tmp_path: Path) -> None:
    case = ran(tmp_path, "b", "e")
    page = programs_page.page(case)
    assert "full, 32 x TPU v6 lite, mine.pair: linen and nnx</h2>" in page
    row = page[page.index('<th scope="row">all-gather</th>') :]
    assert row[: row.index("</tr>")].count(">16<") == 2
    assert "linen: 500 GFLOP" in page
    assert "nnx: 2 TFLOP" in page
    assert "million cycles a step" not in page
    assert programs_page.path(case) in case_page.page(case, None, None)


def test_one_program_that_ran_is_shown_once(tmp_path: Path) -> None:
    page = programs_page.page(ran(tmp_path, "b", "b"))
    assert "mine.pair: linen and nnx are one program</h2>" in page
    row = page[page.index('<th scope="row">all-gather</th>') :]
    assert row[: row.index("</tr>")].count(">16<") == 1
    assert "linen and nnx: 500 GFLOP" in page


def test_a_case_whose_programs_are_not_known_has_no_page(tmp_path: Path) -> None:
    write(tmp_path, run("ran", "nnx"))
    (case,) = [case for case in gathering.gather([tmp_path]).cases if case.groups]
    assert programs_page.path(case) == ""
