"""Small programs compiled for a v6e slice that is not there, by libtpu alone."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from harness import hlo

LAYERS, ROWS, EMBED, WIDE = 4, 128, 256, 1024


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    pytest.importorskip("libtpu", reason="libtpu compiles for TPUs; it comes with the extra tpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPU_ACCELERATOR_TYPE", "v6e-8")
        topology = topologies.get_topology_desc(
            platform="tpu",
            topology_name="v6e:2x4",
            chip_config_name="default",
            chips_per_host_bounds=(2, 2, 1),
            num_slices=1,
        )
        yield Mesh(np.array(topology.devices), ("fsdp",))


def compiled(
    function: Callable[..., object],
    mesh: Mesh,
    *arguments: tuple[tuple[int, ...], str, P],
    out: tuple[P, ...] | None = None,
) -> hlo.Program:
    """The program for arguments of these shapes, types and partitions."""
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, dtype, spec in arguments
    ]
    shardings = None if out is None else tuple(NamedSharding(mesh, spec) for spec in out)
    jitted = jax.jit(function, out_shardings=shardings)
    return hlo.parse(hlo.text(jitted.lower(*shapes).compile()))


def mlp(
    mesh: Mesh, epsilon: float = 1e-5, extra_cast: bool = False, shard: bool = True
) -> hlo.Program:
    """The gradient of four scanned layers of two matmuls, recomputed, weights cast to bf16."""

    def layer(h: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        with jax.named_scope("mlp"):
            wi, wo = (w.astype(jnp.bfloat16) for w in weights)
            scale = lax.rsqrt(
                jnp.mean(jnp.square(h.astype(jnp.float32)), -1, keepdims=True) + epsilon
            )
            wide = jax.nn.silu((h * scale.astype(h.dtype)) @ wi)
            if extra_cast:
                wide = wide.astype(jnp.float8_e4m3fn).astype(jnp.bfloat16)
            return h + wide @ wo, None

    def loss(wi: jax.Array, wo: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(lax.scan(jax.checkpoint(layer), x, (wi, wo))[0].astype(jnp.float32))

    rows, columns = (P(None, "fsdp"), P(None, None, "fsdp")) if shard else (P(), P())
    return compiled(
        jax.grad(loss, argnums=(0, 1)),
        mesh,
        ((LAYERS, EMBED, WIDE), "float32", rows),
        ((LAYERS, WIDE, EMBED), "float32", columns),
        ((8 * ROWS, EMBED), "bfloat16", P("fsdp")),
        out=(rows, columns),
    )


@pytest.fixture(scope="module")
def original(mesh: Mesh) -> hlo.Program:
    return mlp(mesh)


def test_flops_are_forward_backward_and_what_is_recomputed(original: hlo.Program) -> None:
    # Seven products a layer: two forward, four backward, wi again; wo's result is not needed.
    found = hlo.matmuls(original)
    assert sum(one.flops for one in found) == LAYERS * 7 * 2 * ROWS * EMBED * WIDE
    assert {one.dtypes for one in found} == {"bf16 x bf16 -> bf16"}
    assert {one.times for one in found} == {LAYERS}


def test_every_trip_gathers_each_weight_twice_in_bfloat16(original: hlo.Program) -> None:
    full = EMBED * WIDE * 2
    gathers = hlo.collectives(original)["all-gather"]
    assert gathers["count"] == 2 * 2 * LAYERS
    assert gathers["bytes"] == gathers["dtypes"]["bf16"] == 2 * 2 * LAYERS * full
    assert gathers["wire_bytes"] == gathers["bytes"] * 7 // 8
    listed = [one for one in hlo.list_collectives(original) if one.kind == "all-gather"]
    assert sorted(one.argument for one in listed) == ["wi", "wi", "wo", "wo"]
    assert all("mlp" in one.op_name for one in listed)


def test_gradients_are_reduced_and_scattered(original: hlo.Program) -> None:
    reduced = hlo.collectives(original)["all-reduce-scatter(fused)"]
    assert reduced["bytes"] == LAYERS * 2 * EMBED * WIDE * 2
    assert reduced["wire_bytes"] == reduced["bytes"] * 7 // 8


def test_cycles_are_known_and_loops_multiply(original: hlo.Program) -> None:
    listed = hlo.list_cycles(original)
    assert [loop.trips for loop in hlo.walk(original).loops] == [LAYERS, LAYERS]
    assert hlo.warnings(original) == []
    assert hlo.fusion_cycles(original) == sum(one.total for one in listed)
    in_loops = [one for one in listed if one.times == LAYERS]
    assert {one.times for one in listed} == {1, LAYERS}
    inside = [one.instruction for one in in_loops]
    assert any(one.opcode == "fusion" and "mlp" in one.op_name for one in inside)
    assert hlo.uncosted(original)["pallas_calls"] == 0
    collectives = sum(total["count"] for total in hlo.collectives(original).values())
    assert hlo.uncosted(original)["collectives"] == collectives


def test_the_same_program_twice_is_the_same(original: hlo.Program, mesh: Mesh) -> None:
    renamed = Mesh(mesh.devices, ("fsdp",))
    assert hlo.diff(original, mlp(renamed)) == []


def test_another_epsilon_is_named(original: hlo.Program, mesh: Mesh) -> None:
    (found,) = hlo.diff(original, mlp(mesh, epsilon=1e-6))
    assert (found.opcode, found.detail) == ("constant", "value 1e-05 -> 1e-06")
    assert "mlp" in found.where


def test_an_extra_cast_is_named(original: hlo.Program, mesh: Mesh) -> None:
    found = hlo.diff(original, mlp(mesh, extra_cast=True))
    casts = [one for one in found if one.opcode == "convert" and one.shape.startswith("f8e4m3fn")]
    assert any(one.count_a == 0 and "mlp" in one.where for one in casts)


def test_a_lost_sharding_is_named(original: hlo.Program, mesh: Mesh) -> None:
    found = hlo.diff(original, mlp(mesh, shard=False))
    gathers = [one for one in found if one.opcode == "all-gather"]
    assert gathers
    assert all(one.count_b == 0 and "mlp" in one.where for one in gathers)


@pytest.mark.parametrize(
    ("dtype", "result", "products"),
    [
        ("int8", "int32", "s8 x s8 -> s32"),
        ("float8_e4m3fn", "float32", "f8e4m3fn x f8e4m3fn -> f32"),
    ],
)
def test_a_quantised_matmul_is_seen_as_such(
    mesh: Mesh, dtype: str, result: str, products: str
) -> None:
    def multiply(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=result)

    program = compiled(
        multiply, mesh, ((8 * ROWS, EMBED), dtype, P("fsdp")), ((EMBED, WIDE), dtype, P("fsdp"))
    )
    (found,) = hlo.matmuls(program)
    assert (found.dtypes, found.flops) == (products, 2 * ROWS * EMBED * WIDE)
    (gather,) = hlo.list_collectives(program)
    assert (gather.dtype, gather.argument) == (products.split()[0], "w")


@pytest.mark.parametrize(
    ("formula", "flops"),
    [("btnh,bsnh->bnts", 2 * 4 * 128 * 128 * 64), ("bnts,bsnh->btnh", 2 * 4 * 128 * 128 * 64)],
)
def test_a_batched_product_counts_once(mesh: Mesh, formula: str, flops: int) -> None:
    """One of a batch per device; a TPU writes such a product as a dilated convolution."""
    left, right = formula.split("->")[0].split(",")
    sizes = {"b": 8, "t": 128, "s": 128, "n": 4, "h": 64}
    arguments = [
        (tuple(sizes[letter] for letter in letters), "bfloat16", P("fsdp"))
        for letters in (left, right)
    ]
    program = compiled(lambda x, y: jnp.einsum(formula, x, y), mesh, *arguments)
    assert sum(one.flops for one in hlo.matmuls(program)) == flops


def _doubling(x_ref: jax.Ref, out_ref: jax.Ref) -> None:
    out_ref[...] = x_ref[...] * 2.0


def _doubling_elsewhere(source: jax.Ref, target: jax.Ref) -> None:
    # The same kernel, in other lines and with other names.
    doubled = source[...] * 2.0
    target[...] = doubled


def _tripling(x_ref: jax.Ref, out_ref: jax.Ref) -> None:
    out_ref[...] = x_ref[...] * 3.0


def _with_kernel(mesh: Mesh, kernel: Callable[[jax.Ref, jax.Ref], None]) -> jax.stages.Lowered:
    out = jax.ShapeDtypeStruct((8, 128), "float32")
    call = pl.pallas_call(kernel, out_shape=out, name="scale")
    mapped = jax.shard_map(
        lambda x: lax.fori_loop(0, 3, lambda _, y: call(y), x),
        mesh=mesh,
        in_specs=P("fsdp"),
        out_specs=P("fsdp"),
        check_vma=False,
    )
    sharding = NamedSharding(mesh, P("fsdp"))
    return jax.jit(mapped).lower(jax.ShapeDtypeStruct((64, 128), "float32", sharding=sharding))


def test_a_kernel_counts_without_its_source_lines(mesh: Mesh) -> None:
    lowered = [_with_kernel(mesh, one) for one in (_doubling, _doubling_elsewhere, _tripling)]
    digests = [hlo.stablehlo_sha256(one) for one in lowered]
    assert digests[0] == digests[1] != digests[2]
    double, again, triple = (hlo.parse(hlo.text(one.compile())) for one in lowered)
    assert hlo.uncosted(double)["pallas_calls"] == 3
    assert hlo.diff(double, again) == []
    (found,) = hlo.diff(double, triple)
    assert found.opcode == "custom-call"
    assert "body" in found.detail
