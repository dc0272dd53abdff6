from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_pipeline as toy
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from harness import hlo
from harness.training.parallel import pipeline
from harness.training.parallel.mesh import Grid
from harness.training.parallel.schedule import Schedule
from harness.training.parallel.stage import Model
from models.shared.partitioning import mesh_axes, partition_spec

SCALE = 4.0
KEY = jax.random.key(11)


def grid_of(**sizes: int) -> Grid:
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes))
    rules = {
        name: tuple(axis for axis in mesh_axes(over) if axis in sizes) or None
        for name, over in toy.RULES.items()
    }
    return Grid(mesh, rules)


def piped(schedule: Schedule, grid: Grid) -> tuple[Any, Any]:
    """The program of loss and gradients, and its arguments, lying on the mesh."""
    model = Model(toy.PIECES, None, toy.CUT)

    def run(params: Any, batch: Any, key: jax.Array) -> Any:
        return pipeline.value_and_gradients(schedule, model, params, batch, key, jnp.float32(SCALE))

    laid = jax.tree.map(
        lambda axes: NamedSharding(grid.mesh, partition_spec(axes, grid.rules)),
        toy.AXES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    arguments = (
        jax.device_put(toy.params(schedule.stages), laid),
        jax.device_put(
            toy.batch(schedule.microbatches),
            NamedSharding(grid.mesh, PartitionSpec(None, *grid.batch.spec)),
        ),
        jax.device_put(KEY, grid.replicated),
    )
    with grid.in_force():
        return jax.jit(run).lower(*arguments).compile(), arguments


@pytest.fixture(scope="module")
def plain() -> Any:
    return jax.jit(jax.value_and_grad(toy.plain_loss))(toy.params(1), toy.batch(8), KEY)


@pytest.mark.parametrize(
    ("stages", "group", "sizes", "exchanges"),
    [
        (4, 8, {"fsdp": 1, "stage": 4, "tensor": 2}, 70),
        (4, 4, {"fsdp": 1, "stage": 4, "tensor": 2}, 70),
        (2, 2, {"data": 2, "fsdp": 2, "stage": 2}, 34),
        (8, 8, {"fsdp": 1, "stage": 8}, 46),
    ],
)
def test_however_a_model_is_cut(
    stages: int, group: int, sizes: dict[str, int], exchanges: int, plain: Any
) -> None:
    """Loss and gradients are those of plain autodiff, and what is dropped is the same."""
    parts = sizes.get("data", 1) * sizes["fsdp"]
    schedule = Schedule(stages, toy.LAYERS // stages, 8 // parts, group)
    compiled, arguments = piped(schedule, grid_of(**sizes))
    loss, gradients = compiled(*arguments)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)

    def same(found: jax.Array, expected: jax.Array) -> None:
        expected = SCALE * expected.reshape(found.shape)
        assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)

    jax.tree.map(same, gradients, plain[1])
    # Both ways in a steady tick, one way in the others; a loss in a branch counts once for each
    # microbatch, not for each tick.
    program = hlo.parse(hlo.text(compiled))
    assert hlo.collectives(program)["collective-permute"]["count"] == exchanges
    in_loss = [one for one in hlo.list_collectives(program) if "/loss/psum" in one.op_name]
    assert {one.times for one in in_loss} == {schedule.microbatches}
    assert hlo.inexact(program) == []
