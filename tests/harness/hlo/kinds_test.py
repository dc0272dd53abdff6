"""Differences of programs by kind: what computes, draws, is carried, is grouped otherwise."""

import pytest

from harness import hlo
from harness.hlo import kinds as kinds_module

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


def adding(*names: str) -> hlo.Program:
    """A program of additions that are alike but for their names."""
    adds = [
        f'  a{n} = s32[] add(c, c), metadata={{op_name="jit(f)/{name}"}}'
        for n, name in enumerate(names)
    ]
    return program("\n".join(["  c = s32[] constant(1)", *adds]))


@pytest.mark.parametrize(
    ("more", "kind"), [("jit(_uniform)/add", "random numbers"), ("mlp/add", "mathematics")]
)
def test_one_operation_more_is_of_its_own_kind_whatever_its_likes_are_there_for(
    more: str, kind: str
) -> None:
    both = ("optimizer/add", "jit(_uniform)/add")
    (found,) = hlo.diff(adding(*both), adding(*both, more))
    assert (found.opcode, found.kind) == ("add", kind)


def test_what_is_called_otherwise_and_is_in_both_is_no_surplus() -> None:
    a = adding("Dense_0/add", "jit(_uniform)/add")
    b = adding("up/add", "drop/jit(_uniform)/add", "jit(_uniform)/add")
    assert [one.kind for one in hlo.diff(a, b)] == ["random numbers"]


@pytest.mark.parametrize(
    ("shapes", "so"),
    [
        (["u32[2]", "s32[]", "pred[2]"], True),
        (["(s32[], u32[1]{0}, u32[1]{0})"], True),
        (["s32[]", "pred[]"], False),
        (["u32[2]", "f32[]"], False),
        (["u32[2]", "s32[8,16]"], False),
        (["u32[2]", "bf16[4]"], False),
    ],
)
def test_what_stands_beside_keys_alone_draws_too(shapes: list[str], so: bool) -> None:
    assert kinds_module.draws(shapes) == so


def test_an_argument_more_is_state() -> None:
    more = program("  m = u32[2] parameter(2)", key="m")
    assert kinds(more) == {"state carried in and out"}
    assert hlo.KINDS[0] == "mathematics"
