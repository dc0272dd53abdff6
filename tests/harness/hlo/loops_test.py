"""How often branches within loops run, told from the loop's counter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from harness import hlo

# Seven trips; what decides is computed of the counter %i, the table %t and the flag %f.
LOOP = """HloModule m

%taken (p: f32[4,4]) -> f32[4,4] {{
  %p = f32[4,4]{{1,0}} parameter(0)
  ROOT %d = f32[4,4]{{1,0}} dot(%p, %p), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
}}

%left (q: f32[4,4]) -> f32[4,4] {{
  ROOT %q = f32[4,4]{{1,0}} parameter(0)
}}

%condition (c: (s32[], f32[4,4], s32[7], pred[])) -> pred[] {{
  %c = (s32[], f32[4,4]{{1,0}}, s32[7]{{0}}, pred[]) parameter(0)
  %at = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%at, %limit), direction=LT
}}

%body (b: (s32[], f32[4,4], s32[7], pred[])) -> (s32[], f32[4,4], s32[7], pred[]) {{
  %b = (s32[], f32[4,4]{{1,0}}, s32[7]{{0}}, pred[]) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %x = f32[4,4]{{1,0}} get-tuple-element(%b), index=1
  %t = s32[7]{{0}} get-tuple-element(%b), index=2
  %f = pred[] get-tuple-element(%b), index=3
  %zero = s32[] constant(0)
  %one = s32[] constant(1)
  %two = s32[] constant(2)
  %three = s32[] constant(3)
  %next = s32[] add(%i, %one)
{lines}
  %y = f32[4,4]{{1,0}} conditional(%which, %x, %x), {branches}
  ROOT %r = (s32[], f32[4,4]{{1,0}}, s32[7]{{0}}, pred[]) tuple(%next, %y, {kept}, %f)
}}

ENTRY %e (x: f32[4,4], f: pred[]) -> f32[4,4] {{
  %x = f32[4,4]{{1,0}} parameter(0)
  %f = pred[] parameter(1)
  %zero = s32[] constant(0)
  %t = s32[7]{{0}} constant({table})
  %s = (s32[], f32[4,4]{{1,0}}, s32[7]{{0}}, pred[]) tuple(%zero, %x, %t, %f)
  %w = (s32[], f32[4,4]{{1,0}}, s32[7]{{0}}, pred[]) while(%s), condition=%condition, body=%body
  ROOT %y = f32[4,4]{{1,0}} get-tuple-element(%w), index=1
}}
"""
BY_FLAG = "true_computation=%taken, false_computation=%left"
BY_INDEX = "branch_computations={%left, %taken}"
TABLE = "{0, 1, 1, 0, 5, 1, -1}"
LOOKED_UP = "%piece = s32[1] dynamic-slice(%t, %i), dynamic_slice_sizes={1}"


def program(
    lines: list[str], branches: str = BY_FLAG, table: str = TABLE, kept: str = "%t"
) -> hlo.Program:
    text = "\n".join(f"  {line}" for line in lines)
    return hlo.parse(LOOP.format(lines=text, branches=branches, table=table, kept=kept))


def compared(left: str, direction: str, right: str) -> str:
    return f"%which = pred[] compare(%{left}, %{right}), direction={direction}"


@pytest.mark.parametrize(
    ("lines", "times"),
    [
        ([compared("i", "LT", "three")], 3),
        ([compared("i", "GE", "two")], 5),
        ([compared("three", "EQ", "next")], 1),
        (["%m = s32[] multiply(%i, %two)", compared("m", "GT", "three")], 5),
        (["%m = s32[] remainder(%i, %three)", compared("m", "EQ", "zero")], 3),
        (["%m = s32[] subtract(%i, %three)", "%h = s32[] divide(%m, %two)",
          compared("h", "EQ", "zero")], 3),  # rounded towards zero: of -1, 0 and 1
        (["%m = s32[] clamp(%one, %i, %three)", compared("m", "EQ", "three")], 4),
        (["%a = pred[] compare(%i, %two), direction=GE", "%n = pred[] not(%a)",
          "%c = pred[] compare(%i, %three), direction=GT", "%which = pred[] or(%n, %c)"], 5),
        (["%a = pred[] compare(%i, %two), direction=LT", "%m = s32[] select(%a, %three, %i)",
          compared("m", "EQ", "three")], 3),
        # Unsigned numbers wrap around.
        (["%u = u32[] convert(%i)", "%v = u32[] constant(2)", "%m = u32[] subtract(%u, %v)",
          compared("m", "GT", "v")], 4),
        ([LOOKED_UP, "%ones = s32[1] constant({1})",
          "%hit = pred[1] compare(%piece, %ones), direction=EQ",
          "%which = pred[] bitcast(%hit)"], 3),
        (["%deep = s32[1,1,2] constant({ /*i0=0*/ { /*i1=0*/ { 4, 5 } } })",
          "%last = s32[1,1,1] slice(%deep), slice={[0:1], [0:1], [1:2]}",
          "%five = s32[] reshape(%last)", compared("i", "LT", "five")], 5),
        (["%all = s32[7] iota(), iota_dimension=0", "%many = s32[7] broadcast(%i), dimensions={}",
          "%hits = pred[7] compare(%all, %many), direction=LT",
          "%last = pred[1] slice(%hits), slice={[2:3]}", "%which = pred[] reshape(%last)"], 4),
    ],
)  # fmt: skip
def test_a_branch_counts_by_the_trips_that_take_it(lines: list[str], times: int) -> None:
    found = program(lines)
    (conditional,) = hlo.walk(found).conditionals
    assert (conditional.taken, conditional.times) == ((times, 7 - times), 7)
    assert [(one.times, one.exact) for one in hlo.matmuls(found)] == [(times, True)]
    assert hlo.inexact(found) == []


def test_an_index_beyond_the_branches_takes_the_last() -> None:
    found = program([LOOKED_UP, "%which = s32[] reshape(%piece)"], BY_INDEX)
    assert hlo.walk(found).conditionals[0].taken == (2, 5)  # 5 and -1 are beyond


@pytest.mark.parametrize(
    ("lines", "changes"),
    [
        (["%which = pred[] copy(%f)"], {}),
        ([LOOKED_UP, "%which = s32[] reshape(%piece)"], {"branches": BY_INDEX, "table": "{...}"}),
        (
            [LOOKED_UP, "%which = s32[] reshape(%piece)",
             "%new = s32[7] dynamic-update-slice(%t, %piece, %i)"],
            {"branches": BY_INDEX, "kept": "%new"},
        ),
        (["%m = s32[] divide(%three, %i)", compared("m", "GT", "one")], {}),  # by zero at first
        (["%m = s32[] popcnt(%i)", compared("m", "GT", "one")], {}),
    ],
)  # fmt: skip
def test_what_data_or_unknown_operations_decide_is_not_told(
    lines: list[str], changes: dict[str, str]
) -> None:
    found = program(lines, **changes)
    assert hlo.walk(found).conditionals[0].taken is None
    assert [(one.times, one.exact) for one in hlo.matmuls(found)] == [(7, False)]
    assert len(hlo.inexact(found)) == 1


def compiled(function: Callable[..., jax.Array], shape: tuple[int, ...]) -> hlo.Program:
    lowered = jax.jit(function).lower(jax.ShapeDtypeStruct(shape, "float32"))
    return hlo.parse(hlo.text(lowered.compile()))


def multiplied(h: jax.Array) -> jax.Array:
    return jnp.sin(h @ h)


def kept(h: jax.Array) -> jax.Array:
    return h


def test_counters_of_nested_loops_are_followed_together() -> None:
    def step(x: jax.Array) -> jax.Array:
        def outer(h: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            def inner(h: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
                return lax.cond(j <= i, multiplied, kept, h), None

            return lax.scan(inner, h, jnp.arange(4))[0], None

        return lax.scan(outer, x, jnp.arange(5))[0]

    (found,) = hlo.matmuls(compiled(step, (8, 8)))
    assert (found.times, found.exact) == (1 + 2 + 3 + 4 + 4, True)


def test_a_table_that_an_inner_loop_fills_is_not_taken_for_its_beginning() -> None:
    def step(x: jax.Array) -> jax.Array:
        def outer(
            carried: tuple[jax.Array, jax.Array], i: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            h, table = carried
            h = lax.cond(table[i] == 0, multiplied, kept, h)
            filled = lax.fori_loop(0, 5, lambda j, t: t.at[j].set(j * i), table)
            return (h, filled), None

        return lax.scan(outer, (x, jnp.zeros(5, jnp.int32)), jnp.arange(5))[0][0]

    (found,) = hlo.matmuls(compiled(step, (8, 8)))
    assert not found.exact


def test_a_collective_in_a_branch_counts_as_often_as_it_runs() -> None:
    places = jnp.asarray([1, 0, 0, 1, 0, 1, 0])

    def step(x: jax.Array) -> jax.Array:
        def tick(h: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            h = jnp.cos(lax.psum(h, "d"))
            return lax.cond(places[t] == 1, lambda h: jnp.sin(lax.psum(h, "d")), kept, h), None

        return lax.scan(tick, x, jnp.arange(7))[0]

    mesh = Mesh(np.array(jax.devices()), ("d",))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
    found = compiled(mapped, (64, 8))
    assert hlo.collectives(found)["all-reduce"]["count"] == 7 + 3
    assert hlo.inexact(found) == []
