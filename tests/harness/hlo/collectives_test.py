import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from harness import hlo
from harness.hlo.collectives import replica_groups

LINE = [[0, 1, 2, 3, 4, 5, 6, 7]]


def compiled(body: Callable[[jax.Array], jax.Array], out: P, dtype: str = "float32") -> hlo.Program:
    """A program of 8 devices as 2 x 4, each with 16 x 64 values of x."""
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
    spec = P(("data", "model"))
    mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False)
    x = jax.ShapeDtypeStruct((128, 64), dtype, sharding=NamedSharding(mesh, spec))
    return hlo.parse(hlo.text(jax.jit(mapped).lower(x).compile()))


EACH = 16 * 64 * 4  # bytes of one device's part


@pytest.mark.parametrize(
    ("kind", "body", "out", "full", "wire"),
    [
        (
            "all-gather",
            lambda x: lax.all_gather(x, "model", tiled=True),
            P("data"),
            4 * EACH,
            3 * EACH,
        ),
        ("all-reduce", lambda x: lax.psum(x, "data"), P("model"), EACH, 2 * EACH // 2),
        ("all-reduce", lambda x: lax.psum(x, ("data", "model")), P(), EACH, 2 * EACH * 7 // 8),
        (
            "reduce-scatter",
            lambda x: lax.psum_scatter(x, "model", tiled=True),
            P(("data", "model")),
            EACH,
            EACH * 3 // 4,
        ),
        (
            "all-to-all",
            lambda x: lax.all_to_all(x, "data", 0, 1, tiled=True),
            P(("data", "model")),
            EACH,
            EACH // 2,
        ),
        (
            "collective-permute",
            lambda x: lax.ppermute(x, "model", [(i, (i + 1) % 4) for i in range(4)]),
            P(("data", "model")),
            EACH,
            EACH,
        ),
    ],
)
def test_bytes_of_one_collective(
    kind: str, body: Callable[[jax.Array], jax.Array], out: P, full: int, wire: int
) -> None:
    program = compiled(body, out)
    total = {"count": 1, "bytes": full, "wire_bytes": wire, "dtypes": {"f32": full}}
    assert hlo.collectives(program) == {kind: total}
    (found,) = hlo.list_collectives(program)
    assert (found.dtype, found.argument, found.times) == ("f32", "x", 1)
    assert hlo.warnings(program) == []


def test_a_collective_in_nested_loops_counts_every_trip() -> None:
    def body(x: jax.Array) -> jax.Array:
        def inner(y: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.sin(lax.psum(y, "model")), None

        def outer(y: jax.Array, _: None) -> tuple[jax.Array, None]:
            return lax.scan(inner, y, length=5)[0], None

        return lax.scan(outer, x, length=3)[0]

    program = compiled(body, P(("data", "model")))
    assert hlo.collectives(program)["all-reduce"]["count"] == 15
    assert hlo.collectives(program)["all-reduce"]["wire_bytes"] == 15 * EACH * 2 * 3 // 4


def test_a_gathered_weight_is_named() -> None:
    mesh = Mesh(np.array(jax.devices()), ("fsdp",))

    def step(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        def layer(h: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
            return jnp.tanh(h @ w), None

        return lax.scan(layer, x, params["wi"])[0]

    def shape(dimensions: tuple[int, ...], *spec: str | None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dimensions, "float32", sharding=NamedSharding(mesh, P(*spec)))

    lowered = jax.jit(step).lower({"wi": shape((6, 32, 32), None, "fsdp")}, shape((64, 32), "fsdp"))
    program = hlo.parse(hlo.text(lowered.compile()))
    (found,) = hlo.list_collectives(program)
    assert (found.kind, found.argument, found.times) == ("all-gather", "params['wi']", 6)
    assert (found.shape, found.bytes) == ("f32[32,32]", 6 * 32 * 32 * 4)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("", LINE),
        ("{}", LINE),
        ("{{0,1,2,3,4,5,6,7}}", LINE),
        ("{{0,1},{2,3},{4,5},{6,7}}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("[1,8]<=[8]", LINE),
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=8,'b'=1] {'a'}", LINE),
        ("mesh['a'=2,'b'=4] {'b'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=2,'b'=4] {'b','a'}", [[0, 4, 1, 5, 2, 6, 3, 7]]),
        ("mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("mesh['a'=8] {'a':(1)2,'a':(4)2}", [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ("mesh['a'=2,'b'=2], device_ids=(3,2,1,0) {'a'}", [[3, 1], [2, 0]]),
        ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=2,'b'=4], device_ids=([8]) {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ],
)
def test_replica_groups_in_every_spelling(text: str, groups: list[list[int]]) -> None:
    assert replica_groups(text, 8) == groups


def test_a_device_list_stays_with_its_groups() -> None:
    program = hlo.parse(
        "HloModule m, num_partitions=4\n\n"
        "ENTRY %e (p: f32[8]) -> f32[8] {\n"
        "  %p = f32[8]{0} parameter(0)\n"
        "  ROOT %r = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups=mesh['a'=2,'b'=2], "
        "device_ids=(3,2,1,0) {'a'}, use_global_device_ids=true, to_apply=%add\n"
        "}\n"
    )
    assert hlo.list_collectives(program)[0].group_size == 2


# As an NVIDIA program writes them: with sugar, wrapped, and in pieces.
ASYNC = """HloModule m, num_partitions=4

%wrapped (q: f32[16]) -> f32[4] {
  %q = f32[16]{0} parameter(0)
  ROOT %rs = f32[4]{0} reduce-scatter(%q), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
}

ENTRY %e (p: f32[8], r: f32[16]) -> (f32[32], f32[4]) {
  %p = f32[8]{0} parameter(0)
  %r = f32[16]{0} parameter(1)
  %ag = (f32[8]{0}, f32[32]{0}) all-gather-start(%p), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}
  %ag.done = f32[32]{0} all-gather-done(%ag)
  %ar = f32[16]{0} all-reduce-start(%r), channel_id=2, replica_groups=[1,4]<=[4], to_apply=%add
  %ar.done = f32[16]{0} all-reduce-done(%ar)
  %rs = ((f32[16]{0}), f32[4]{0}) async-start(%ar.done), calls=%wrapped
  %rs.done = f32[4]{0} async-done(%rs), calls=%wrapped
  %a2a = ((f32[16]{0}), f32[16]{0}) all-to-all-start(%ar.done), channel_id=4, replica_groups={{0,1},{2,3}}, dimensions={0}
  %a2a.done = f32[16]{0} all-to-all-done(%a2a)
  ROOT %t = (f32[32]{0}, f32[4]{0}) tuple(%ag.done, %rs.done)
}
"""  # noqa: E501


def test_a_start_and_its_done_count_once() -> None:
    totals = hlo.collectives(hlo.parse(ASYNC))
    assert {kind: total["count"] for kind, total in totals.items()} == {
        "all-gather": 1,
        "all-reduce": 1,
        "reduce-scatter": 1,
        "all-to-all": 1,
    }
    assert totals["all-gather"]["wire_bytes"] == 3 * 8 * 4
    assert totals["all-reduce"]["wire_bytes"] == 2 * 16 * 4 * 3 // 4
    assert totals["reduce-scatter"]["wire_bytes"] == 16 * 4 * 3 // 4
    assert totals["all-to-all"]["wire_bytes"] == 16 * 4 // 2


# How a TPU reduces and scatters: a fusion in which every device slices what was reduced.
FUSED = """HloModule m, num_partitions=8

%all-reduce-scatter.2 (a: bf16[512,16], b: bf16[16,512]) -> (bf16[64,16], bf16[16,64]) {
  %a = bf16[512,16]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[16,512]{0,1:T(8,128)(2,1)} parameter(1)
  %ar = (bf16[512,16]{1,0}, bf16[16,512]{0,1}) all-reduce(%a, %b), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %a.full = bf16[512,16]{1,0} get-tuple-element(%ar), index=0
  %id = u32[] partition-id()
  %rows = u32[] constant(64)
  %start = u32[] multiply(%id, %rows)
  %zero = u32[] constant(0)
  %a.part = bf16[64,16]{1,0} dynamic-slice(%a.full, %start, %zero), dynamic_slice_sizes={64,16}
  %b.full = bf16[16,512]{0,1} get-tuple-element(%ar), index=1
  %b.part = bf16[16,64]{0,1} dynamic-slice(%b.full, %zero, %start), dynamic_slice_sizes={16,64}
  ROOT %t = (bf16[64,16]{1,0}, bf16[16,64]{0,1}) tuple(%a.part, %b.part)
}

ENTRY %e (x: bf16[512,16], y: bf16[16,512]) -> (bf16[64,16], bf16[16,64]) {
  %x = bf16[512,16]{1,0} parameter(0)
  %y = bf16[16,512]{0,1} parameter(1)
  ROOT %f = (bf16[64,16]{1,0}, bf16[16,64]{0,1}) fusion(%x, %y), kind=kCustom, calls=%all-reduce-scatter.2, metadata={op_name="jit(step)/mlp/dot_general"}
}
"""  # noqa: E501


def test_a_fused_all_reduce_scatter_is_a_kind_of_its_own() -> None:
    (found,) = hlo.list_collectives(hlo.parse(FUSED))
    full = 2 * 512 * 16 * 2
    assert found.kind == "all-reduce-scatter(fused)"
    assert (found.bytes, found.wire_bytes) == (full, full * 7 // 8)
    assert found.shape == "bf16[512,16], bf16[16,512]"
    assert (found.op_name, found.computation) == ("jit(step)/mlp/dot_general", "e")


def test_an_all_reduce_in_a_fusion_that_keeps_it_whole_stays_an_all_reduce() -> None:
    text = re.sub(r"dynamic-slice\((%\w\.full).*", r"negate(\1)", FUSED)
    (found,) = hlo.list_collectives(hlo.parse(text))
    assert found.kind == "all-reduce"


# One collective spread over fusions that compute as well, and one on a TPU's sparse core.
SPREAD = """HloModule m, num_partitions=8

%first (w: bf16[64,16]) -> bf16[512,16] {
  %w = bf16[64,16]{1,0} parameter(0)
  ROOT %ag.1 = bf16[512,16]{1,0} all-gather(%w), channel_id=3, replica_groups=[1,8]<=[8], dimensions={0}, frontend_attributes={chain_id="7"}, backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
}

%second (v: bf16[64,16], full: bf16[512,16], x: bf16[8,512]) -> bf16[8,16] {
  %v = bf16[64,16]{1,0} parameter(0)
  %full = bf16[512,16]{1,0} parameter(1)
  %x = bf16[8,512]{1,0} parameter(2)
  %ag.2 = bf16[512,16]{1,0} all-gather(%v), channel_id=3, replica_groups=[1,8]<=[8], dimensions={0}, frontend_attributes={chain_id="7"}, backend_config={"async_collective_fusion_config":{"flag_start":"2"}}
  ROOT %c = bf16[8,16]{1,0} convolution(%x, %full), dim_labels=bf_io->bf
}

%on_sparse_core (u: bf16[64,16], t: token[]) -> bf16[512,16] {
  %t = token[] parameter(1)
  %u = bf16[64,16]{1,0} parameter(0)
  ROOT %ag.3 = bf16[512,16]{1,0} all-gather(%u), channel_id=4, replica_groups=[1,8]<=[8], dimensions={0}
}, execution_thread="sparsecore"

ENTRY %e (w: bf16[64,16], x: bf16[8,512]) -> (bf16[8,16], bf16[512,16]) {
  %w = bf16[64,16]{1,0} parameter(0), metadata={op_name="params['w']"}
  %x = bf16[8,512]{1,0} parameter(1), metadata={op_name="x"}
  %ready = token[] custom-call(), custom_call_target="PrepareAsyncCallDone"
  %call = ((bf16[64,16]{1,0}, token[]), bf16[512,16]{1,0}) call-start(%w, %ready), async_execution_thread="sparsecore", to_apply=%on_sparse_core
  %start = bf16[512,16]{1,0} fusion(%w), kind=kCustom, calls=%first
  %done = bf16[8,16]{1,0} fusion(%w, %start, %x), kind=kCustom, calls=%second
  %call.done = bf16[512,16]{1,0} call-done(%call)
  ROOT %r = (bf16[8,16]{1,0}, bf16[512,16]{1,0}) tuple(%done, %call.done)
}
"""  # noqa: E501


def test_a_collective_spread_over_fusions_counts_once() -> None:
    program = hlo.parse(SPREAD)
    assert hlo.collectives(program)["all-gather"]["count"] == 2
    assert {one.argument for one in hlo.list_collectives(program)} == {"params['w']"}
    assert hlo.warnings(program) == []
    assert len(hlo.matmuls(program)) == 1


def test_two_collectives_of_one_channel_count_twice() -> None:
    """Layers that are no loop share their channels: what is no piece of one counts for itself."""
    of_another_layer = SPREAD.replace('chain_id="7"', 'chain_id="8"', 1)
    assert hlo.collectives(hlo.parse(of_another_layer))["all-gather"]["count"] == 3
    whole = SPREAD.replace("async_collective_fusion_config", "other_config")
    assert hlo.collectives(hlo.parse(whole))["all-gather"]["count"] == 3


def test_a_collective_that_nothing_is_seen_to_run_is_reported() -> None:
    text = SPREAD.replace("call-start(%w, %ready), ", "unheard-of-start(%w, %ready), ")
    program = hlo.parse(text)
    assert hlo.collectives(program)["all-gather"]["count"] == 1
    assert hlo.inexact(program) == ["counts are too low: nothing is seen to run ag.3"]
