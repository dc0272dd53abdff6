from typing import Any

import numpy as np
import pytest

from harness import hlo
from harness.hlo import known


def evaluated(line: str, *operands: Any) -> Any:
    """What one operation gives of operands, each a list over the executions."""
    program = hlo.parse(
        "HloModule m\n\nENTRY %e (a: s32[]) -> s32[] {\n"
        "  %a = s32[] parameter(0)\n  %b = s32[] parameter(1)\n  %c = s32[] parameter(2)\n"
        f"  ROOT %r = {line}\n}}\n"
    )
    instruction = program.entry.root
    found = known.evaluate(instruction, [None if o is None else np.asarray(o) for o in operands])
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("line", "operands", "expected"),
    [
        ("s32[] add(%a, %b)", ([3], [4]), [7]),
        ("s32[] add(%a, %b)", ([3, 5], [4]), [7, 9]),
        ("s8[] add(%a, %b)", ([127], [1]), [-128]),
        ("s32[] divide(%a, %b)", ([-7], [2]), [-3]),
        ("s32[] remainder(%a, %b)", ([-7], [2]), [-1]),
        ("s32[] divide(%a, %b)", ([7], [0]), None),
        ("pred[] compare(%a, %b), direction=LT", ([1, 3], [2]), [True, False]),
        ("s32[] clamp(%a, %b, %c)", ([0], [9], [5]), [5]),
        ("s32[] negate(%a)", (None,), None),
        ("f32[] negate(%a)", ([1.0],), None),
        ("s32[3]{0} iota(), iota_dimension=0", (), [[0, 1, 2]]),
        ("s32[2]{0} constant({4, 5})", (), [[4, 5]]),
        ("s32[2]{0} constant({...})", (), None),
        ("s32[2]{0} broadcast(%a), dimensions={}", ([3],), [[3, 3]]),
        ("s32[1]{0} slice(%a), slice={[1:2]}", ([[4, 5]],), [[5]]),
        ("s32[1]{0} dynamic-slice(%a, %b), dynamic_slice_sizes={1}", ([[4, 5]], [9]), [[5]]),
    ],
)
def test_an_operation_gives_what_the_device_computes(
    line: str, operands: tuple[Any, ...], expected: Any
) -> None:
    assert evaluated(line, *operands) == expected


def test_a_counter_begins_where_its_loop_does() -> None:
    found = known.counted(np.array([0, 10]), 2, trips=3, times=2)
    assert found is not None
    assert found.tolist() == [0, 2, 4, 10, 12, 14]
    assert known.counted(np.array([0]), 1, trips=10**9, times=1) is None
    again = known.repeated(np.array([4, 5]), 2)
    assert again is not None
    assert again.tolist() == [4, 4, 5, 5]


def test_each_execution_takes_one_branch() -> None:
    taken = known.takers(np.array([0, 2, 7, -1]), 3, 4)
    assert [one.tolist() for one in taken] == [
        [True, False, False, False],
        [False, False, False, False],
        [False, True, True, True],
    ]
    for_true, for_false = known.takers(np.array([True, False]), 2, 2)
    assert (for_true.tolist(), for_false.tolist()) == ([True, False], [False, True])
