"""The step-time model: on a program counted by hand, and on the published runs."""

from dataclasses import replace
from typing import Any

import pytest

from harness import hardware, hlo
from harness.slices import prediction

V6E = "TPU v6 lite"
MICROSECOND = 1e-6
GATHER = 2 * 1024 * 1024 * 7 / 8 / 1e11  # seconds of 7/8 of bf16[1024,1024] over one link
PERMUTE = 2 * 128 * 1024 / 1e11

# Four trips, each with an all-gather and a fusion of 1 microsecond; then a permute and a copy
# around a fusion of 1 microsecond.
PROGRAM = """HloModule m, is_scheduled=true, num_partitions=8

%fused (p: bf16[1024,1024]) -> bf16[128,1024] {
  %p = bf16[1024,1024]{1,0} parameter(0)
  ROOT %s = bf16[128,1024]{1,0} slice(%p), slice={[0:128], [0:1024]}
}

%same (q: bf16[128,1024]) -> bf16[128,1024] {
  %q = bf16[128,1024]{1,0} parameter(0)
  ROOT %n = bf16[128,1024]{1,0} negate(%q)
}

%condition (c: (s32[], bf16[128,1024])) -> pred[] {
  %c = (s32[], bf16[128,1024]{1,0}) parameter(0)
  %at = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(4)
  ROOT %less = pred[] compare(%at, %limit), direction=LT
}

%body (b: (s32[], bf16[128,1024])) -> (s32[], bf16[128,1024]) {
  %b = (s32[], bf16[128,1024]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %x = bf16[128,1024]{1,0} get-tuple-element(%b), index=1
  %full = bf16[1024,1024]{1,0} all-gather(%x), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, backend_config={"rings":"colors:1"}
  %y = bf16[128,1024]{1,0} fusion(%full), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"1750"}
  ROOT %t = (s32[], bf16[128,1024]{1,0}) tuple(%next, %y)
}

ENTRY %e (a: bf16[128,1024]) -> bf16[128,1024] {
  %a = bf16[128,1024]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %init = (s32[], bf16[128,1024]{1,0}) tuple(%zero, %a)
  %loop = (s32[], bf16[128,1024]{1,0}) while(%init), condition=%condition, body=%body
  %z = bf16[128,1024]{1,0} get-tuple-element(%loop), index=1
  %send = (bf16[128,1024]{1,0}, bf16[128,1024]{1,0}, u32[], u32[]) collective-permute-start(%z), channel_id=2, source_target_pairs={{0,1},{1,2}}
  %fetch = (bf16[128,1024]{1,0:S(1)}, bf16[128,1024]{1,0}, u32[]) copy-start(%z)
  %work = bf16[128,1024]{1,0} fusion(%z), kind=kLoop, calls=%same, backend_config={"estimated_cycles":"1750"}
  %fetched = bf16[128,1024]{1,0:S(1)} copy-done(%fetch)
  %sent = bf16[128,1024]{1,0} collective-permute-done(%send)
  ROOT %r = bf16[128,1024]{1,0} add(%sent, %work)
}
"""  # noqa: E501


def predicted(text: str = PROGRAM) -> dict[str, Any]:
    return prediction.predict(hlo.parse(text), V6E)


def test_a_program_takes_what_its_parts_take_by_hand() -> None:
    found = predicted()
    assert found["compute_seconds"] == pytest.approx(5 * MICROSECOND)
    assert found["wire_seconds"] == pytest.approx(4 * GATHER + PERMUTE)
    # Of the permute and the copy, one microsecond each is hidden by the fusion between.
    assert PERMUTE > MICROSECOND
    assert found["exposed_wire_seconds"] == pytest.approx(4 * GATHER + PERMUTE - MICROSECOND)
    assert found["exposed_copy_seconds"] == 0
    assert found["step_seconds"] == pytest.approx(4 * GATHER + PERMUTE + 4 * MICROSECOND)


def test_a_copy_that_nothing_hides_is_waited_for() -> None:
    work = next(line for line in PROGRAM.splitlines(keepends=True) if "%work = " in line)
    ready = "  %fetched = bf16[128,1024]{1,0:S(1)} copy-done(%fetch)\n"
    found = predicted(PROGRAM.replace(work, "").replace(ready, ready + work))
    assert found["exposed_copy_seconds"] == pytest.approx(2 * 128 * 1024 / 1.638e12)


def test_of_two_branches_the_longer_counts() -> None:
    text = """HloModule m

%short (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%p), backend_config={"estimated_cycles":"1750"}
}

%long (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} copy(%q), backend_config={"estimated_cycles":"3500"}
}

ENTRY %e (a: f32[8], which: pred[]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %which = pred[] parameter(1)
  ROOT %c = f32[8]{0} conditional(%which, %a, %a), true_computation=%short, false_computation=%long
}
"""
    assert predicted(text)["step_seconds"] == pytest.approx(2 * MICROSECOND)


def test_a_branch_takes_its_time_as_often_as_it_runs() -> None:
    """Of the four trips the first two gather, the others do not."""
    branches = """%gathered (g: bf16[128,1024]) -> bf16[1024,1024] {
  %g = bf16[128,1024]{1,0} parameter(0)
  ROOT %full = bf16[1024,1024]{1,0} all-gather(%g), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, backend_config={"rings":"colors:1"}
}

%spread (s: bf16[128,1024]) -> bf16[1024,1024] {
  %s = bf16[128,1024]{1,0} parameter(0)
  ROOT %p = bf16[1024,1024]{1,0} unheard-of(%s)
}

"""  # noqa: E501
    gather = next(line for line in PROGRAM.splitlines(keepends=True) if "%full = " in line)
    text = PROGRAM.replace("%condition (", f"{branches}%condition (", 1).replace(
        gather,
        "  %two = s32[] constant(2)\n"
        "  %first = pred[] compare(%i, %two), direction=LT\n"
        "  %full = bf16[1024,1024]{1,0} conditional(%first, %x, %x), true_computation=%gathered,"
        " false_computation=%spread\n",
    )
    assert predicted(text)["wire_seconds"] == pytest.approx(2 * GATHER + PERMUTE)


def test_a_loop_without_a_trip_takes_no_time() -> None:
    never = PROGRAM.replace("%limit = s32[] constant(4)", "%limit = s32[] constant(0)")
    assert predicted(never)["wire_seconds"] == pytest.approx(PERMUTE)


def test_two_rings_carry_twice_as_much() -> None:
    found = predicted(PROGRAM.replace("colors:1", "colors:2"))
    assert found["wire_seconds"] == pytest.approx(4 * GATHER / 2 + PERMUTE)


@pytest.mark.parametrize(
    ("ring", "count", "rate"),
    [
        ('{"phase_rings":[{"ring_type":"ICI_RING_TYPE_UNIDIR_CW"}]}', 1, 1),
        ('{"phase_rings":[{"ring_type":"ICI_RING_TYPE_UNIDIR_CW"}]}', 2, 2),
        ('{"phase_rings":[{"explicit_strategy_ring_dim":"ICI_RING_DIM_X_MESH"}]}', 4, 2),
        ('{"phase_rings":[{"explicit_strategy_ring_dim":"ICI_RING_DIM_X_MESH"}]}', 1, 1),
    ],
)
def test_a_collective_of_the_sparsecores_has_the_rings_of_its_strategy(
    ring: str, count: int, rate: int
) -> None:
    """Along a line of chips the two ways around share the links."""
    strategy = f'"color_strategies":[{",".join([ring] * count)}]'
    found = predicted(PROGRAM.replace('"rings":"colors:1"', strategy))
    assert found["wire_seconds"] == pytest.approx(4 * GATHER / rate + PERMUTE)


def test_a_small_collective_takes_its_hops() -> None:
    small = PROGRAM.replace("bf16[1024,1024]", "bf16[8,8]").replace("[128,1024]", "[1,8]")
    assert predicted(small)["wire_seconds"] == pytest.approx((4 * 7 + 1) * MICROSECOND)


# An all-gather begun by one fusion, passed on by a second for 1 microsecond, and ended by a fourth;
# the third computes for 1 microsecond without it.
CARRIED = """HloModule m, num_partitions=8

%begin (w: bf16[128,1024]) -> (bf16[128,1024], bf16[1024,1024]) {
  %w = bf16[128,1024]{1,0} parameter(0)
  %g.1 = bf16[1024,1024]{1,0} all-gather(%w), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, PIECE
  ROOT %c.1 = (bf16[128,1024]{1,0}, bf16[1024,1024]{1,0}) custom-call(%g.1), custom_call_target="AsyncCollectiveStart"
}

%pass_on (v: bf16[128,1024]) -> (bf16[128,1024], bf16[1024,1024]) {
  %v = bf16[128,1024]{1,0} parameter(0)
  %n = bf16[128,1024]{1,0} negate(%v)
  %g.2 = bf16[1024,1024]{1,0} all-gather(%v), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, PIECE
  ROOT %t = (bf16[128,1024]{1,0}, bf16[1024,1024]{1,0}) tuple(%n, %g.2)
}

%alone (u: bf16[128,1024]) -> bf16[128,1024] {
  %u = bf16[128,1024]{1,0} parameter(0)
  ROOT %m = bf16[128,1024]{1,0} negate(%u)
}

%end (x: bf16[128,1024]) -> bf16[1024,1024] {
  %x = bf16[128,1024]{1,0} parameter(0)
  %g.3 = bf16[1024,1024]{1,0} all-gather(%x), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}, PIECE
  ROOT %c.2 = bf16[1024,1024]{1,0} custom-call(%x, %g.3), custom_call_target="AsyncCollectiveDone"
}

ENTRY %e (a: bf16[128,1024]) -> bf16[1024,1024] {
  %a = bf16[128,1024]{1,0} parameter(0)
  %async-collective-start = (bf16[128,1024]{1,0}, bf16[1024,1024]{1,0}) fusion(%a), kind=kCustom, calls=%begin
  %one = (bf16[128,1024]{1,0}, bf16[1024,1024]{1,0}) fusion(%a), kind=kCustom, calls=%pass_on, backend_config={"estimated_cycles":"1750"}
  %two = bf16[128,1024]{1,0} fusion(%a), kind=kLoop, calls=%alone, backend_config={"estimated_cycles":"1750"}
  ROOT %async-collective-done = bf16[1024,1024]{1,0} fusion(%a), kind=kCustom, calls=%end
}
""".replace(  # noqa: E501
    "PIECE",
    'frontend_attributes={chain_id="9"}, backend_config={"async_collective_fusion_config":{}}',
)


def test_a_collective_spread_over_fusions_is_hidden_by_those_that_carry_it() -> None:
    found = predicted(CARRIED)
    assert found["wire_seconds"] == pytest.approx(GATHER)
    assert found["compute_seconds"] == pytest.approx(2 * MICROSECOND)
    assert found["exposed_wire_seconds"] == pytest.approx(GATHER - MICROSECOND)


def test_attention_kernels_take_their_blocks_at_half_the_units_width() -> None:
    kernel = (
        "  %splash_mha_dkv_no_residuals.1 = bf16[16,2048,128]{2,1,0} custom-call(%q, %q, %q),"
        ' custom_call_target="tpu_custom_call"\n'
    )
    text = f"""HloModule m

ENTRY %e (q: bf16[16,2048,128]) -> bf16[16,2048,128] {{
  %q = bf16[16,2048,128]{{2,1,0}} parameter(0)
{kernel}  ROOT %n = bf16[16,2048,128]{{2,1,0}} negate(%splash_mha_dkv_no_residuals.1)
}}
"""
    # Four products; of 4 x 4 blocks of 512 the 10 that the causal mask meets; 128 of 256 columns.
    flops = 4 * 2 * 16 * 2048 * 2048 * 128 * 10 / 16
    assert predicted(text)["kernel_seconds"] == pytest.approx(flops / (918e12 / 2))


def test_a_chip_without_published_constants_gets_no_time() -> None:
    assert prediction.predict(hlo.parse(PROGRAM), "TPU7x") == {"step_seconds": None}


def test_assumed_constants_are_told() -> None:
    found = prediction.predict(hlo.parse(PROGRAM), "TPU v5")
    assert found["step_seconds"] > 0
    assert found["constants"]["assumed"]
    assert "assumed: no published run" in found["caution"]
    assert found["checked_against"] == []


def test_the_errors_on_published_runs_are_small_or_explained() -> None:
    runs = {run["run"]: run for run in predicted()["checked_against"]}
    assert len(runs) == 3
    for name in ("03_dropout on v6e-32", "08_checkpoint_async_true on v6e-8"):
        assert abs(runs[name]["error_percent"]) <= 15
    int8 = runs["04_int8 on v6e-32"]
    assert int8["error_percent"] < -15
    assert "not the program that ran" in int8["explanation"]
    for run in runs.values():
        assert run["hidden_step_seconds"] < run["step_seconds"]


def test_the_constants_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    device = hardware.find(V6E)
    assert device is not None
    assert device.chip is not None
    both_ways = replace(device, chip=replace(device.chip, link_bytes_per_second=2e11))
    monkeypatch.setattr(hardware, "find", lambda kind: both_ways)
    (dropout,) = [run for run in prediction.check() if run["run"].startswith("03")]
    assert dropout["error_percent"] < -40  # the published run cannot have used both ways
