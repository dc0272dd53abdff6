"""Differences of programs by kind: what computes, draws, is carried, is grouped otherwise."""

import pytest

from harness import hlo

HLO = """HloModule m
ENTRY main {{
  x = f32[8] parameter(0)
  k = u32[2] parameter(1)
{}
  ROOT t = (f32[8], u32[2]) tuple({}, {})
}}
"""


def program(lines: str = "", out: str = "x", key: str = "k") -> hlo.Program:
    return hlo.parse(HLO.format(lines, out, key))


def kinds(other: hlo.Program) -> set[str]:
    return {one.kind for one in hlo.diff(program(), other)}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("y = f32[8] add(x, x)", "mathematics"),
        ('y = f32[8] add(x, x), metadata={op_name="jit(f)/jit(_uniform)/add"}', "random numbers"),
        ("y = f32[8] copy(x)", "grouping and layout"),
    ],
)
def test_an_operation_is_of_the_kind_that_it_is_there_for(line: str, kind: str) -> None:
    assert kind in kinds(program(f"  {line}", "y"))


def test_what_computes_keys_draws_random_numbers() -> None:
    assert kinds(program("  n = u32[2] xor(k, k)", key="n")) >= {"random numbers"}
    generator = "  n = u32[2] rng-bit-generator(k), algorithm=rng_threefry"
    assert kinds(program(generator, key="n")) >= {"random numbers"}


@pytest.mark.parametrize(
    ("more", "kind"), [("jit(_uniform)/add", "random numbers"), ("mlp/add", "mathematics")]
)
def test_one_operation_more_is_of_its_own_kind_whatever_its_likes_are_there_for(
    more: str, kind: str
) -> None:
    adds = [
        f'  {name} = s32[] add(c, c), metadata={{op_name="jit(f)/{what}"}}'
        for name, what in (("a", "optimizer/add"), ("b", "jit(_uniform)/add"), ("d", more))
    ]
    few, many = (program("\n".join(["  c = s32[] constant(1)", *adds[:n]])) for n in (2, 3))
    (found,) = hlo.diff(few, many)
    assert (found.opcode, found.kind) == ("add", kind)


def test_an_argument_more_is_state() -> None:
    more = program("  m = u32[2] parameter(2)", key="m")
    assert kinds(more) == {"state carried in and out"}
    assert hlo.KINDS[0] == "mathematics"
