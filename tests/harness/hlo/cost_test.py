import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from harness import hlo
from harness.hlo.cost import _meetings


def compiled(function: Callable[..., object], *shapes: tuple[int, ...]) -> str:
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text() or ""


@pytest.mark.parametrize(
    ("formula", "left", "right", "flops"),
    [
        ("mk,kn->mn", (16, 32), (32, 64), 2 * 16 * 32 * 64),
        ("btd,df->btf", (2, 8, 32), (32, 64), 2 * 2 * 8 * 32 * 64),
        ("btnh,bsnh->bnts", (2, 8, 4, 16), (2, 8, 4, 16), 2 * 2 * 4 * 8 * 8 * 16),
        ("btnh,nhd->btd", (2, 8, 4, 16), (4, 16, 32), 2 * 2 * 8 * 4 * 16 * 32),
    ],
)
def test_flops_of_an_einsum(
    formula: str, left: tuple[int, ...], right: tuple[int, ...], flops: int
) -> None:
    text = compiled(lambda x, y: jnp.einsum(formula, x, y), left, right)
    (found,) = hlo.matmuls(hlo.parse(text))
    assert (found.flops, found.dtypes) == (flops, "f32 x f32 -> f32")
    assert formula in found.op_name


def test_flops_of_nested_loops_multiply() -> None:
    def step(x: jax.Array, w: jax.Array) -> jax.Array:
        def inner(h: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.sin(h @ w), None

        def outer(h: jax.Array, _: None) -> tuple[jax.Array, None]:
            return lax.scan(inner, h @ w, length=3)[0], None

        return lax.scan(outer, x, length=7)[0]

    program = hlo.parse(compiled(step, (16, 32), (32, 32)))
    assert sum(found.flops for found in hlo.matmuls(program)) == 2 * 16 * 32 * 32 * 7 * 4
    assert sorted(found.times for found in hlo.matmuls(program)) == [7, 21]


@pytest.mark.parametrize("keeps_known_count", [True, False])
@pytest.mark.parametrize(("lower", "upper", "trips"), [(0, 5, 5), (3, 11, 8), (0, 1000, 1000)])
def test_trips_of_a_compiled_loop(
    lower: int, upper: int, trips: int, keeps_known_count: bool
) -> None:
    def step(x: jax.Array) -> jax.Array:
        return lax.fori_loop(lower, upper, lambda i, h: jnp.sin(h @ h) + i, x)

    text = compiled(step, (8, 8))
    if not keeps_known_count:
        text, removed = re.subn(r'"known_trip_count":\{[^}]*\}', '"x":1', text)
        assert removed
    program = hlo.parse(text)
    assert [loop.trips for loop in hlo.walk(program).loops] == [trips]
    assert hlo.warnings(program) == []


def test_trips_that_depend_on_data_are_said_to_be_unknown() -> None:
    def step(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda h: jnp.sum(h) < 100, lambda h: jnp.sin(h @ h) + h, x)

    program = hlo.parse(compiled(step, (8, 8)))
    (loop,) = hlo.walk(program).loops
    assert loop.trips is None
    assert [line.partition(":")[0] for line in hlo.warnings(program)] == ["counts are too low"]
    assert [found.exact for found in hlo.matmuls(program)] == [False]


# A loop as a TPU program holds it: the counter in a tuple within the state, the comparison
# behind a fusion, start, limit and step as operands.
LOOP = """HloModule m

%compared (l: s32[], r: s32[]) -> pred[] {{
  %l = s32[]{{:T(128)}} parameter(0)
  %r = s32[]{{:T(128)}} parameter(1)
  ROOT %c = pred[]{{:T(512)}} compare(%l, %r), direction={direction}
}}

%condition (s: ((s32[], f32[4]), s32[])) -> pred[] {{
  %s = ((s32[], f32[4]{{0}}), s32[]) parameter(0)
  %pair = (s32[], f32[4]{{0}}) get-tuple-element(%s), index=0
  %i = s32[] get-tuple-element(%pair), index=0
  %limit = s32[] get-tuple-element(%s), index=1
  ROOT %less = pred[] fusion(%i, %limit), kind=kLoop, calls=%compared
}}

%body (s: ((s32[], f32[4]), s32[])) -> ((s32[], f32[4]), s32[]) {{
  %s = ((s32[], f32[4]{{0}}), s32[]) parameter(0)
  %pair = (s32[], f32[4]{{0}}) get-tuple-element(%s), index=0
  %i = s32[] get-tuple-element(%pair), index=0
  %i.copy = s32[]{{:S(6)}} copy(%i)
  %step = s32[] constant({step})
  %next = s32[] add(%step, %i.copy)
  %x = f32[4]{{0}} get-tuple-element(%pair), index=1
  %y = f32[4]{{0}} negate(%x), backend_config={{"window_config":{{"estimated_cycles":"10"}}}}
  %pair.next = (s32[], f32[4]{{0}}) tuple(%next, %y)
  %limit = s32[] get-tuple-element(%s), index=1
  ROOT %t = ((s32[], f32[4]{{0}}), s32[]) tuple(%pair.next, %limit)
}}

ENTRY %e (x: f32[4]) -> f32[4] {{
  %x = f32[4]{{0}} parameter(0)
  %start = s32[] constant({start})
  %limit = s32[] constant({limit})
  %x.pair = (s32[], f32[4]{{0}}) tuple(%start, %x)
  %state = ((s32[], f32[4]{{0}}), s32[]) tuple(%x.pair, %limit)
  %w = ((s32[], f32[4]{{0}}), s32[]) while(%state), condition=%condition, body=%body
  %pair = (s32[], f32[4]{{0}}) get-tuple-element(%w), index=0
  %out = f32[4]{{0}} get-tuple-element(%pair), index=1
  ROOT %r = f32[4]{{0}} copy(%out), backend_config={{"window_config":{{"estimated_cycles":"3"}}}}
}}
"""


@pytest.mark.parametrize(
    ("start", "limit", "step", "direction", "trips"),
    [
        (0, 4, 1, "LT", 4),
        (0, 4, 2, "LT", 2),
        (0, 5, 2, "LT", 3),
        (1, 5, 2, "LE", 3),
        (7, 0, -1, "GT", 7),
        (7, 0, -2, "GE", 4),
        (0, 6, 3, "NE", 2),
        (5, 4, 1, "LT", 0),
        (0, 7, 3, "NE", None),
        (0, 4, -1, "LT", None),
        (0, 4, 0, "LT", None),
    ],
)
def test_trips_from_start_limit_and_step(
    start: int, limit: int, step: int, direction: str, trips: int | None
) -> None:
    text = LOOP.format(start=start, limit=limit, step=step, direction=direction)
    program = hlo.parse(text)
    assert [loop.trips for loop in hlo.walk(program).loops] == [trips]
    assert hlo.fusion_cycles(program) == 3 + 10 * (1 if trips is None else trips)
    assert bool(hlo.warnings(program)) == (trips is None)


def test_a_limit_that_the_body_moves_is_not_taken_for_constant() -> None:
    text = LOOP.format(start=0, limit=8, step=1, direction="LT").replace(
        "tuple(%pair.next, %limit)", "tuple(%pair.next, %moved)"
    )
    assert hlo.walk(hlo.parse(_moving(text, "subtract(%limit, %step)"))).loops[0].trips == 4
    assert hlo.walk(hlo.parse(_moving(text, "negate(%limit)"))).loops[0].trips is None


def _moving(text: str, operation: str) -> str:
    line = "  ROOT %t = ((s32"
    return text.replace(line, f"  %moved = s32[] {operation}\n{line}")


def test_no_estimate_is_none_rather_than_zero() -> None:
    program = hlo.parse(compiled(lambda x: x @ x, (8, 8)))
    assert hlo.fusion_cycles(program) is None
    assert hlo.list_cycles(program) == []


def test_estimates_are_listed_by_operation_with_their_trips() -> None:
    program = hlo.parse(LOOP.format(start=0, limit=4, step=1, direction="LT"))
    listed = [(one.instruction.opcode, one.times, one.total) for one in hlo.list_cycles(program)]
    assert listed == [("negate", 4, 40), ("copy", 1, 3)]


CONVOLUTION = """HloModule m

ENTRY %e (p: s8[{left}], q: s8[{right}]) -> s32[{result}] {{
  %p = s8[{left}]{{1,0}} parameter(0)
  %q = s8[{right}]{{1,0}} parameter(1)
  ROOT %c = s32[{result}]{{1,0}} convolution(%p, %q), {window}dim_labels={labels}
}}
"""


@pytest.mark.parametrize(
    ("left", "right", "result", "window", "labels", "products"),
    [
        ("16,32", "32,64", "16,64", "", "bf_io->bf", 16 * 32 * 64),
        ("16,32", "64,16", "32,64", "", "fb_oi->bf", 16 * 32 * 64),
        # Contracted over the window as well, as windowed einsums are.
        ("2,8,16", "64,2,8", "16,64,1", "window={size=2}, ", "0fb_o0i->bf0", 2 * 8 * 16 * 64),
        # A batch of 4 products as a TPU writes it: each kernel position meets its own data.
        (
            "4,8,16",
            "4,32,16",
            "4,8,32",
            "window={size=4 stride=3 pad=0_0 lhs_dilate=4}, ",
            "0bf_0oi->0bf",
            4 * 8 * 16 * 32,
        ),
        # An ordinary convolution: 3 positions wide over 5 values, padded by one on each side.
        ("1,5,2", "3,2,4", "1,5,4", "window={size=3 pad=1_1}, ", "b0f_0io->b0f", 13 * 2 * 4),
    ],
)
def test_flops_of_a_convolution(
    left: str, right: str, result: str, window: str, labels: str, products: int
) -> None:
    text = CONVOLUTION.format(left=left, right=right, result=result, window=window, labels=labels)
    (found,) = hlo.matmuls(hlo.parse(text))
    assert (found.flops, found.dtypes) == (2 * products, "s8 x s8 -> s32")


@pytest.mark.parametrize(
    ("data", "kernel", "stride", "low", "high", "spread", "step"),
    [(5, 3, 1, 1, 1, 1, 1), (7, 3, 2, 0, 2, 1, 2), (4, 3, 1, 2, 2, 3, 1), (6, 6, 1, 5, 5, 1, 1)],
)
def test_padding_is_not_multiplied(
    data: int, kernel: int, stride: int, low: int, high: int, spread: int, step: int
) -> None:
    padded = np.zeros(low + (data - 1) * spread + 1 + high)
    padded[low : low + (data - 1) * spread + 1 : spread] = 1
    width = (kernel - 1) * step + 1
    starts = range(0, len(padded) - width + 1, stride)
    expected = sum(padded[start : start + width : step].sum() for start in starts)
    window = {
        "size": str(kernel),
        "stride": str(stride),
        "pad": f"{low}_{high}",
        "lhs_dilate": str(spread),
        "rhs_dilate": str(step),
    }
    assert _meetings(window, 0, data, kernel, len(starts)) == expected


def test_a_gpu_library_call_is_a_matmul() -> None:
    program = hlo.parse(
        "HloModule m\n\n"
        "ENTRY %e (p: bf16[16,32], q: bf16[64,32]) -> bf16[16,64] {\n"
        "  %p = bf16[16,32]{1,0} parameter(0)\n"
        "  %q = bf16[64,32]{1,0} parameter(1)\n"
        "  %g = (bf16[16,64]{1,0}, s8[4096]{0}) custom-call(%p, %q), "
        'custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":'
        '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
        '"rhs_contracting_dimensions":["1"],"lhs_batch_dimensions":[],'
        '"rhs_batch_dimensions":[]}}}\n'
        "  ROOT %r = bf16[16,64]{1,0} get-tuple-element(%g), index=0\n"
        "}\n"
    )
    (found,) = hlo.matmuls(program)
    assert (found.flops, found.dtypes) == (2 * 16 * 32 * 64, "bf16 x bf16 -> bf16")
