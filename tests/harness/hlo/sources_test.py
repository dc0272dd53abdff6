import re

from harness import hlo

# As XLA prints it: parents are counted from 1 on, so that the outermost frame seems its own.
TEXT = """HloModule jit_step, is_scheduled=true

FileNames
1 "/home/somebody/own/models/decoder/linen.py"
2 "/home/somebody/own/models/shared/ops.py"

FunctionNames
1 "Transformer.__call__"
2 "rms_norm"

FileLocations
1 {file_name_id=1 function_name_id=1 line=131 end_line=131 column=19 end_column=38}
2 {file_name_id=2 function_name_id=2 line=66 end_line=66 column=18 end_column=67}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}


ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %inner = f32[4]{0} add(%x, %x), metadata={op_name="jit(step)/decoder/norm/add" stack_frame_id=2}
  %outer = f32[4]{0} multiply(%inner, %x), metadata={op_name="jit(step)/mul" stack_frame_id=1}
  ROOT %old = f32[4]{0} tanh(%outer), metadata={source_file="/a/b/c/d.py" source_line=7}
}
"""


def sources(text: str) -> dict[str, str]:
    program = hlo.parse(text)
    return {name: hlo.source(program, one) for name, one in program.entry.instructions.items()}


def test_an_operation_is_found_in_its_file_and_in_that_of_its_caller() -> None:
    assert sources(TEXT) == {
        "x": "",
        "inner": "models/shared/ops.py:66 by models/decoder/linen.py:131",
        "outer": "models/decoder/linen.py:131",
        "old": "b/c/d.py:7",
    }


def test_parents_that_are_counted_from_nought_are_followed_too() -> None:
    plain = TEXT.replace("parent_frame_id=1}", "parent_frame_id=0}")
    plain = plain.replace("parent_frame_id=2}", "parent_frame_id=1}")
    assert sources(plain) == sources(TEXT)


def test_what_is_no_file_is_passed_over() -> None:
    within = TEXT.replace("/home/somebody/own/models/shared/ops.py", "<scope>")
    assert sources(within)["inner"] == "models/decoder/linen.py:131"


def test_without_tables_nothing_is_told() -> None:
    bare = re.sub(r"FileNames.*?(?=ENTRY)", "", TEXT, flags=re.DOTALL)
    assert sources(bare)["inner"] == ""
    damaged = TEXT.replace("file_location_id=2", "file_location_id=9")
    assert sources(damaged)["inner"] == "?:? by models/decoder/linen.py:131"


def test_a_difference_tells_the_lines_of_both_sides() -> None:
    other = TEXT.replace("tanh(", "negate(").replace("d.py", "e.py")
    found = {one.opcode: one for one in hlo.diff(hlo.parse(TEXT), hlo.parse(other))}
    assert (found["tanh"].source_a, found["tanh"].source_b) == ("b/c/d.py:7", "")
    assert (found["negate"].source_a, found["negate"].source_b) == ("", "b/c/e.py:7")
    assert ".py" not in str(found["tanh"])
