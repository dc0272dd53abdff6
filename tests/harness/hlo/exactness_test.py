"""What of a program's counts is not exact is said in a few lines, whatever its size."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from harness import hlo


def compiled(function: Callable[..., jax.Array], *shapes: tuple[int, ...]) -> hlo.Program:
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    lowered = jax.jit(function).lower(*arguments)
    return hlo.parse(hlo.text(lowered.compile()))


def until_large(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda h: jnp.sum(h) < 100, lambda h: jnp.sin(h @ h) + h, x)


def test_loops_of_one_kind_are_one_line() -> None:
    def step(x: jax.Array) -> jax.Array:
        for _ in range(5):
            x = until_large(x) - 7
        return x

    program = compiled(step, (8, 8))
    names = [loop.name for loop in hlo.walk(program).loops if loop.trips is None]
    assert len(names) == 5
    assert hlo.inexact(program) == [
        f"counts are too low: no trip count can be told for {', '.join(names[:3])} and 2 more, so"
        " one trip is counted"
    ]


def test_a_loop_in_which_nothing_is_counted_is_no_reason() -> None:
    def step(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda h: jnp.sum(h) < 100, lambda h: jnp.sin(h) + h, x) @ x

    program = compiled(step, (8, 8))
    assert [loop.trips for loop in hlo.walk(program).loops] == [None]
    assert hlo.inexact(program) == []


def test_branches_count_as_taken_and_are_said_to_where_data_decide() -> None:
    def step(x: jax.Array, which: jax.Array) -> jax.Array:
        with jax.named_scope("expert"):
            return lax.cond(which[0] > 0, lambda h: h @ h, jnp.sin, x)

    program = compiled(step, (8, 8), (1,))
    (found,) = hlo.matmuls(program)
    assert (found.times, found.exact) == (1, False)
    (conditional,) = hlo.walk(program).conditionals
    assert hlo.inexact(program) == [
        f"counts may be too high: which branch runs cannot be told for {conditional.name} in"
        " expert, so every branch is counted each time"
    ]


UNSEEN = """HloModule m, num_partitions=8

%somewhere (u: bf16[64,16]) -> bf16[512,16] {
  %u = bf16[64,16]{1,0} parameter(0)
  ROOT %ag = bf16[512,16]{1,0} all-gather(%u), replica_groups=[1,8]<=[8], dimensions={0}
}

ENTRY %e (w: bf16[64,16]) -> bf16[64,16] {
  %w = bf16[64,16]{1,0} parameter(0)
  %table = bf16[64,16]{1,0} constant({...})
  %called = bf16[64,16]{1,0} unheard-of(%w), to_apply=%somewhere
  ROOT %swapped = bf16[64,16]{1,0} ragged-all-to-all(%w, %table)
}
"""


def test_what_is_not_counted_or_compared_at_all_is_named() -> None:
    program = hlo.parse(UNSEEN)
    counts = [
        "counts are too low: nothing is seen to run ag",
        "bytes on the wire are too low: none are counted for swapped",
    ]
    assert hlo.inexact(program) == counts
    assert hlo.warnings(program) == [
        *counts,
        "programs may look alike that are not: the text elides the values of table",
    ]


def test_groups_of_devices_that_cannot_be_read_are_said_to_be_taken_as_all() -> None:
    text = """HloModule m, num_partitions=8

ENTRY %e (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %some = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  %all = f32[8]{0} all-reduce(%some), channel_id=2, replica_groups={}, to_apply=%add
  ROOT %odd = f32[8]{0} all-reduce(%all), channel_id=3, replica_groups=ring[8], to_apply=%add
}
"""
    assert hlo.inexact(hlo.parse(text)) == [
        "bytes on the wire may be too high: all devices are taken as one group of odd"
    ]
