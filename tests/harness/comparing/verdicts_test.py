"""What is made of each area of a comparison."""

from compared_records import PROGRAM, STRICT, Record, changed, make, noise

from harness import hlo
from harness.comparing import comparison, comparison_text
from harness.comparing.model import Comparison, Limits, Row, Verdict


def verdicts(found: Comparison) -> dict[str, Verdict]:
    return {verdict.area: verdict for verdict in found.verdicts}


def row(found: Comparison, name: str) -> Row:
    (one,) = (row for row in found.rows if row.name == name)
    return one


def speed(a: Record, b: Record, limits: Limits = STRICT) -> Verdict:
    return verdicts(comparison.compare([a], [b], limits=limits))["speed"]


def test_the_limit_is_what_matters() -> None:
    a, b = make(seconds=noise(0, 300, 1)), make(seconds=noise(1, 300, 1), scale=1.03)
    assert speed(a, b).regression
    loose = speed(a, b, Limits(slowdown_percent=10))
    assert (loose.outcome, loose.regression) == ("same", False)
    assert loose.words.startswith("alike within 10 %")
    assert speed(b, a).outcome == "better"


def test_every_byte_of_memory_counts_and_the_limit_says_when_it_fails() -> None:
    more = changed("memory.total_bytes", 860_000_001)
    found = comparison.compare([make()], [more], limits=STRICT)
    assert verdicts(found)["memory"].outcome == "worse"
    assert found.regressed
    assert not comparison.compare([make()], [more]).regressed
    less = comparison.compare([more], [make()], limits=STRICT)
    assert (verdicts(less)["memory"].outcome, less.regressed) == ("better", False)
    unknown = changed("memory.total_bytes", None)
    unknown["memory"]["peak_in_use_bytes"] = None
    found = comparison.compare([make()], [unknown])
    assert verdicts(found)["memory"].outcome == "unknown"


HLO = """HloModule m
ENTRY main {{
  x = f32[8] parameter(0)
  ROOT y = f32[8] {}(x, x)
}}
"""


def test_programs_that_differ_are_told_apart_by_what_they_do() -> None:
    other = make()
    other["program"] = PROGRAM | {
        "optimized_sha256": "f" * 64,
        "wire_bytes": 7e9,
        "collectives": {"all-gather": {"count": 18, "bytes": 7e9}},
    }
    found = comparison.compare([make()], [other])
    assert {name: b for name, _, b in found.programs.changes} == {
        "bytes on the wire": 7e9,
        "all-gather count": 18,
        "all-gather bytes": 7e9,
    }
    words = verdicts(found)["program"].words
    assert words.startswith("one lowered text, compiled otherwise: bytes on the wire,")
    assert "program.txt.gz" in words
    programs = hlo.parse(HLO.format("add")), hlo.parse(HLO.format("multiply"))
    found = comparison.compare([make()], [other], programs=programs)
    assert found.programs.operations
    assert any("multiply" in operation for operation in found.programs.operations)
    assert "multiply" in comparison_text.terminal(found)


def test_checkpoints_are_compared_by_what_they_hold() -> None:
    found = comparison.compare([make()], [changed("checkpoint.arrays", 40)])
    assert verdicts(found)["checkpoints"].outcome == "different"
    assert "39 -> 40 arrays" in verdicts(found)["checkpoints"].words
    none = changed("checkpoint.saves", [])
    found = comparison.compare([make()], [none])
    assert row(found, "checkpoint stall").b is None
    assert "1.600 s and unknown in 2 and 0 saves" in verdicts(found)["checkpoints"].words
