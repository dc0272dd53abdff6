import time

import pytest

from harness import hlo
from harness.terminal.errors import UserError

# Forms a TPU program takes: tables, a layout with tiles, comments, an instruction over three
# lines with a brace of its own, quotes within quotes, a slice in flight.
TPU_FORMS = r"""HloModule jit_step, is_scheduled=true, entry_computation_layout={(bf16[8,128]{1,0:T(8,128)(2,1)})->f32[8,128]{1,0:T(8,128)}}, num_partitions=8, frontend_attributes={arg_memory_spaces="0"}

FileNames
1 "model.py {"

StackFrames
1 {file_location_id=1 parent_frame_id=1}


ENTRY %main.1_spmd (x.1: bf16[8,128]) -> f32[8,128] {
  %x.1 = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0), sharding={devices=[8,1]<=[8]}, metadata={op_name="batch['inputs']"}
  %slice-start.2 = ((bf16[8,128]{1,0:T(8,128)(2,1)}), bf16[4,128]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%x.1), slice={[0:4], [0:128]}
  %slice-done.2 = bf16[4,128]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start.2)
  %kernel.1 = (f32[8,128]{1,0:T(8,128)}, /*index=1*/f32[4]{0:T(128)}) custom-call(%x.1, /*index=1*/%slice-done.2), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\"block_q\": 128, \"brackets\": \"}])\"}"
}}, metadata={op_name="jit(step)/attention/pallas_call" stack_frame_id=1}, backend_config={"custom_call_config":{"body":"QUJD"}}
  ROOT %out.1 = f32[8,128]{1,0:T(8,128)} get-tuple-element(%kernel.1), index=0
}

"""  # noqa: E501


def test_an_instruction_over_several_lines_is_read_whole() -> None:
    entry = hlo.parse(TPU_FORMS).entry
    assert list(entry.instructions) == ["x.1", "slice-start.2", "slice-done.2", "kernel.1", "out.1"]
    kernel = entry.instructions["kernel.1"]
    assert kernel.operands == ("x.1", "slice-done.2")
    assert str(kernel.shape) == "(f32[8,128], f32[4])"
    assert kernel.target == "tpu_custom_call"
    assert kernel.op_name == "jit(step)/attention/pallas_call"
    assert "brackets" in kernel.attributes["frontend_attributes"]
    assert kernel.attributes["backend_config"] == '{"custom_call_config":{"body":"QUJD"}}'
    assert entry.root.name == "out.1"
    assert entry.root.attributes == {"index": "0"}


def test_layouts_and_tables_do_not_disturb() -> None:
    program = hlo.parse(TPU_FORMS)
    assert list(program.computations) == ["main.1_spmd"]
    assert program.devices == 8
    assert program.header["frontend_attributes"] == '{arg_memory_spaces="0"}'
    x = program.entry.instructions["x.1"]
    assert (x.shape.layout, x.literal) == ("{1,0:T(8,128)(2,1)}", "0")
    assert x.op_name == "batch['inputs']"
    slice_start = program.entry.instructions["slice-start.2"]
    assert [str(array) for array in slice_start.shape.arrays] == [
        "bf16[8,128]",
        "bf16[4,128]",
        "s32[]",
    ]


def test_a_brace_on_its_own_line_ends_a_computation_only_when_all_brackets_are_closed() -> None:
    text = TPU_FORMS.replace(
        '}}, metadata={op_name="jit(step)/att', '}\n}, metadata={op_name="jit(step)/att'
    )
    assert len(hlo.parse(text).entry.instructions) == 5


def test_a_forged_text_takes_no_longer_than_its_length() -> None:
    text = f"HloModule m\n\nENTRY main {{\n  %x = f32[8] add{'(' * 20_001}\n" + 20_000 * "}\n"
    begun = time.perf_counter()
    with pytest.raises(UserError, match="does not end"):
        hlo.parse(text)
    assert time.perf_counter() - begun < 5  # were all lines looked at again at each, minutes


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("bf16[2,3]{1,0:T(8,128)(2,1)}", 12),
        ("f8e4m3fn[5]{0}", 5),
        ("s4[3]{0:E(4)}", 2),
        ("pred[7]{0}", 7),
        ("f32[]", 4),
        ("f32[0,4]{1,0}", 0),
        ("s32[<=8]{0}", 32),
        ("c64[2]", 16),
        ("token[]", 0),
        ("((f32[2]{0}), bf16[2], /*index=2*/u32[]{:S(2)})", 16),
    ],
)
def test_bytes_of_a_shape(shape: str, size: int) -> None:
    text = f"HloModule m\n\nENTRY %e (p: x) -> x {{\n  ROOT %p = {shape} parameter(0)\n}}\n"
    assert hlo.parse(text).entry.root.shape.bytes == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with HloModule"),
        ("module @jit_step {\n}", "must begin with HloModule"),
        ("HloModule m\n", "no ENTRY"),
        (TPU_FORMS.rpartition("}")[0], "cut off"),
        ("HloModule m\n\nENTRY %e (p: f32[]) -> f32[] {\n}\n", "no ROOT"),
        ("HloModule m\n\nENTRY %e () -> x {\n  ROOT %p = what? parameter(0)\n}\n", "what?"),
    ],
)
def test_what_is_not_a_program_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        hlo.parse(text)
    assert "\n" not in str(error.value)
