import re
from typing import Any

from compared_records import Record, make

from harness.pages import anatomy
from harness.pages.sources import Run


def run(made: Record) -> Run:
    return Run(made, "page", None)


def widths(drawn: str) -> list[float]:
    return [float(width) for width in re.findall(r' width="([0-9.]+)%" height="100%"><t', drawn)]


def test_memory_is_what_the_step_needs_and_the_peak_that_was_seen() -> None:
    made = make()
    made["memory"] |= {
        "argument_bytes": 600,
        "output_bytes": 700,
        "alias_bytes": 600,
        "temp_bytes": 200,
        "generated_code_bytes": None,
        "total_bytes": 900,
        "peak_in_use_bytes": 1000,
        "capacity_bytes": 2000,
    }
    drawn = anatomy.memory([("one", run(made))])
    assert widths(drawn) == [60.0, 10.0, 20.0]
    assert 'x1="100.000%"' in drawn
    assert "45.0 % of" in drawn or "45 % of" in drawn
    assert "peak in use" in drawn


def test_of_a_log_that_leaves_out_the_aliases_the_total_tells() -> None:
    made = make()
    made["memory"] = dict.fromkeys(made["memory"]) | {
        "argument_bytes": 600,
        "temp_bytes": 200,
        "total_bytes": 900,
    }
    assert len(widths(anatomy.memory([("one", run(made))]))) == 3


def test_nothing_known_is_no_picture() -> None:
    made = make()
    made["memory"] = dict.fromkeys(made["memory"])
    assert anatomy.memory([("one", run(made))]) == ""
    assert anatomy.step({"v6e-8": run(made)}) == ""
    assert anatomy.saving([]) == ""


def test_a_predicted_step_is_marked_where_it_is_not_exact() -> None:
    def predicted(**prediction: Any) -> str:
        made = make()
        made["prediction"] = {"step_seconds": 0.25, "compute_seconds": 0.2, **prediction}
        made["prediction"] |= {"exposed_wire_seconds": 0.05}
        return anatomy.step({"v6e-8": run(made)})

    assert widths(predicted()) == [80.0, 20.0]
    assert "~" not in predicted()
    assert "~" in predicted(caution="because")


def test_saves_fall_between_the_steps() -> None:
    made = make()
    made["steps"] = made["steps"][:10]
    drawn = anatomy.saving([("one", run(made))])
    assert drawn.count("blocking") >= 2
    assert "1.6" in drawn
    assert drawn.count("step ") >= 10


def test_the_wire_lies_below_the_device_hidden_from_the_start_and_waited_for_after() -> None:
    made = make()
    made["prediction"] = {"step_seconds": 0.1, "compute_seconds": 0.08, "wire_seconds": 0.05}
    made["prediction"]["exposed_wire_seconds"] = 0.02
    drawn = anatomy.timeline("A step", [("one", run(made))])
    assert widths(drawn) == [80.0, 20.0, 30.0, 20.0]
    assert re.findall(r'class="(k\d)" x="([0-9.]+)%"', drawn) == [
        *(("k0", "0.000"), ("k2", "80.000")),
        *(("k4", "0.000"), ("k2", "80.000")),
    ]
    del made["prediction"]["wire_seconds"]
    assert len(widths(anatomy.timeline("A step", [("one", run(made))]))) == 2


def test_parts_of_two_programs_stand_below_each_other_the_largest_first() -> None:
    sides = []
    for cycles in ({"norm": 1e6, "mlp": 4e6}, {"mlp": 2e6, "head": 3e6, "odd": "text"}):
        made = make()
        made["prediction"] = {"step_seconds": None, "cycles_by_part": cycles}
        sides.append(run(made))
    drawn = anatomy.parts([("a", sides[0]), ("b", sides[1])])
    assert widths(drawn) == [100.0, 50.0, 75.0, 25.0]
    assert re.findall(r'bar-name">(\w*)<', drawn) == ["mlp", "", "head", "norm"]
    assert "4 million cycles, 80 %" in drawn


def test_without_cycles_parts_are_told_by_their_products() -> None:
    made = make()
    made["program"] |= {"tflop_by_part": {"mlp": 4e-6, "norm": 0.0, "head": 1e-3}}
    drawn = anatomy.parts([("a", run(made))])
    assert "Matrix products by part" in drawn
    assert re.findall(r'bar-value">([^<]*)<', drawn) == ["1 GFLOP, 99.6 %", "4 MFLOP, 0.398 %"]
