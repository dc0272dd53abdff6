"""What is made of each area of a comparison."""

from compared_records import PROGRAM, STRICT, changed, make

from harness import hlo
from harness.comparing import comparison, comparison_text
from harness.comparing.model import Comparison, Row, Verdict


def verdicts(found: Comparison) -> dict[str, Verdict]:
    return {verdict.area: verdict for verdict in found.verdicts}


def row(found: Comparison, name: str) -> Row:
    (one,) = (row for row in found.rows if row.name == name)
    return one


def test_memory_within_the_limit_is_the_same_and_its_bytes_are_told() -> None:
    more = changed("memory.total_bytes", 860_000_016)
    within = verdicts(comparison.compare([make()], [more]))["memory"]
    assert (within.outcome, within.regression) == ("same", False)
    assert "compiled for (+16 bytes, +0.00 %)" in within.words
    tiny = [changed("memory.total_bytes", count) for count in (100_000, 116_000, 117_000)]
    for one in tiny:
        one["memory"]["peak_in_use_bytes"] = None
    judged = [verdicts(comparison.compare(tiny[:1], [one]))["memory"].outcome for one in tiny[1:]]
    assert judged == ["same", "worse"]  # within 16 KiB, and beyond it
    found = comparison.compare([make()], [more], limits=STRICT)
    assert verdicts(found)["memory"].outcome == "worse"
    assert found.regressed
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
WITH_STATE = """HloModule m
ENTRY main {
  x = f32[8] parameter(0)
  k = u32[2] parameter(1)
  y = f32[8] add(x, x)
  ROOT t = (f32[8], u32[2]) tuple(y, k)
}
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
    assert any(one.opcode == "multiply" for one in found.programs.operations)
    assert "multiply" in comparison_text.terminal(found)
    assert verdicts(found)["program"].words.endswith("; what differs is mathematics (2)")
    programs = hlo.parse(HLO.format("add")), hlo.parse(WITH_STATE)
    found = comparison.compare([make()], [other], programs=programs)
    assert "state carried in and out (" in verdicts(found)["program"].words
    assert verdicts(found)["program"].words.endswith(" alone")


def test_texts_that_differ_in_names_alone_compile_to_one_program() -> None:
    found = comparison.compare([make()], [changed("program.stablehlo_sha256", "f" * 64)])
    words = verdicts(found)["program"].words
    assert words == "the same, bbbbbbbbbbbb; the texts before compiling differ in names only"


def test_checkpoints_are_compared_by_what_they_hold() -> None:
    found = comparison.compare([make()], [make(1)])
    assert verdicts(found)["checkpoints"].words.endswith(" s and 1.600 s in 2 saves each")
    found = comparison.compare([make()], [changed("checkpoint.arrays", 40)])
    assert verdicts(found)["checkpoints"].outcome == "different"
    assert "39 -> 40 arrays" in verdicts(found)["checkpoints"].words
    none = changed("checkpoint.saves", [])
    found = comparison.compare([make()], [none])
    assert row(found, "checkpoint stall").b is None
    assert "1.600 s and unknown in 2 and 0 saves" in verdicts(found)["checkpoints"].words


def test_of_programs_that_differ_no_more_is_equal_than_was_counted() -> None:
    sides = make(), make()
    for letter, one in zip("ef", sides, strict=True):
        counted = {"wire_bytes": 0, "collectives": {}, "fusion_cycles": 7.0}
        one["program"] = PROGRAM | counted | {"optimized_sha256": letter * 64}
    found = comparison.compare([sides[0]], [sides[1]])
    assert ", though equal in cycles; program.txt.gz" in verdicts(found)["program"].words
    sides[1]["program"]["fusion_cycles"] = None
    found = comparison.compare([sides[0]], [sides[1]])
    assert "equal in" not in verdicts(found)["program"].words
