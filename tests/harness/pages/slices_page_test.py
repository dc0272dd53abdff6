from pathlib import Path
from typing import Any

import pytest
from compared_records import write
from report_site import run

from harness.pages import gathering, slices_page


def compiled(name: str, case: str, seconds: float | None = 0.06, **changes: Any) -> Any:
    made = run(name, "nnx") | {"status": "preflight", "steps": []} | changes
    made["timing"] |= dict.fromkeys(made["timing"]) | {"compile_seconds": 30.0}
    made["timing"]["step_seconds"] = dict.fromkeys(("median", "p10", "p90", "samples"))
    config = {"data.per_device_batch": 2, "data.global_batch": None, "data.sequence_length": 100}
    made["case"] = {"name": case, "hash": None, "config": config}
    made["memory"] |= {"total_bytes": 2**30, "capacity_bytes": 2**32}
    made["prediction"] |= {"step_seconds": seconds, "compute_seconds": 0.04, "wire_seconds": 0.05}
    made["prediction"]["exposed_wire_seconds"] = 0.02
    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write(tmp_path, compiled("a", "01_baseline"))
    write(tmp_path, compiled("b", "03_dropout"))
    unfit = compiled("c", "04_int8", error="does not fit: too large")
    unfit["program"]["optimized_sha256"] = None
    write(tmp_path, unfit)
    return tmp_path


def test_it_tells_what_fits_and_what_a_slice_is_paid_for(results: Path) -> None:
    page = slices_page.page("slices.html", gathering.gather([results]))
    assert "75 %</data></a>" in page
    assert page.count("does not fit") == 1
    for value in (32 * 1000 * 0.06 / 60, 32 * 1e6 / 6400 * 0.06 / 60, 32 * 30.0 / 60):
        assert f'<data value="{value!r}">' in page
    assert "wire 50 ms, 30 ms hidden" in page


def test_cases_that_are_one_program_there_have_one_price(results: Path) -> None:
    page = slices_page.page("slices.html", gathering.gather([results]))
    prices = page[page.index('id="prices"') : page.index('id="timelines"')]
    assert prices.count("<tr>") == 2  # the heading and one row
    assert "are one program" in prices
    assert "01_baseline and 1 more: compute 40 ms" in page


def test_a_time_that_is_not_known_has_no_price(tmp_path: Path) -> None:
    write(tmp_path, compiled("a", "01_baseline", seconds=None))
    page = slices_page.page("slices.html", gathering.gather([tmp_path]))
    assert page.count('<span class="missing">') == 3  # the step, its thousand, its million
    nothing = slices_page.page("slices.html", gathering.gather([tmp_path / "a"]))
    assert "A step on" not in nothing
