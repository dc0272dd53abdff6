"""The fullest moment of a program's temporaries, counted by hand."""

from harness import hlo
from harness.hlo import buffers

KIB = 1024

# Entry: a (4 KiB) lives until c; the loop holds b (2 KiB) and, inside, t (8 KiB, then gone) while
# a is still needed. v lies inside the core. r is the result: no temporary.
PROGRAM = """HloModule m, is_scheduled=true

%condition (c: (s32[], f32[512])) -> pred[] {
  %c = (s32[], f32[512]{0}) parameter(0)
  %at = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(4)
  ROOT %less = pred[] compare(%at, %limit), direction=LT
}

%body (b: (s32[], f32[512])) -> (s32[], f32[512]) {
  %b = (s32[], f32[512]{0}) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %x = f32[512]{0} get-tuple-element(%b), index=1
  %t = f32[2048]{0} broadcast(%i), dimensions={}, metadata={op_name="jit(step)/layers/mlp/broadcast"}
  %s = f32[512]{0} slice(%t), slice={[0:512]}
  %v = f32[9999]{0:S(1)} broadcast(%i), dimensions={}
  %y = f32[512]{0} dynamic-update-slice(%x, %s, %i)
  ROOT %next = (s32[], f32[512]{0}) tuple(%i, %y)
}

ENTRY %e (p: f32[1024]) -> f32[1024] {
  %p = f32[1024]{0} parameter(0)
  %a = f32[1024]{0} negate(%p), metadata={op_name="jit(step)/embedding/neg"}
  %zero = s32[]{:S(6)} constant(0)
  %start = f32[512]{0} slice(%p), slice={[0:512]}
  %init = (s32[], f32[512]{0}) tuple(%zero, %start)
  %loop = (s32[], f32[512]{0}) while(%init), condition=%condition, body=%body
  %b = f32[512]{0} get-tuple-element(%loop), index=1
  %c = f32[1024]{0} add(%a, %a)
  ROOT %r = f32[1024]{0} add(%c, %p)
}
"""  # noqa: E501


def test_the_fullest_moment_is_inside_the_loop_and_holds_what_the_caller_keeps() -> None:
    moment = buffers.fullest(hlo.parse(PROGRAM))
    # slice s (2 KiB) is made while t is still there
    assert moment.bytes == (4 + 2 + 8 + 2) * KIB
    sizes = [buffer.bytes // KIB for buffer in moment.buffers]
    assert sizes == [8, 4, 2, 2]
    assert (moment.buffers[0].shape, moment.buffers[0].where) == ("f32[2048]", "layers/mlp")
    assert moment.buffers[1].where == "embedding"


def test_a_buffer_dies_with_its_last_use() -> None:
    without_loop = PROGRAM.replace("add(%a, %a)", "add(%p, %p)")
    moment = buffers.fullest(hlo.parse(without_loop))
    assert moment.bytes == (2 + 8 + 2) * KIB
