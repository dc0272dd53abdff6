"""Models that lay themselves over a mesh of their own: arrays and batch lie as the pair says."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import programs
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from small_pairs import module

from harness.cases import families, reading
from harness.terminal.errors import UserError
from harness.training import checking, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from models.pair import Pair

HIDDEN, BATCH = PartitionSpec("rows", "columns"), PartitionSpec("rows")


def laid(devices: Any, columns: int) -> Mesh:
    columns = min(columns, len(devices))
    return Mesh(np.reshape(devices, (1, -1, columns)), ("stage", "rows", "columns"))


def held(x: jax.Array, over: Mesh) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(over, HIDDEN))


class Linen(nn.Module):
    """Its kernels' axes have names, its hidden tensor a place."""

    over: Mesh

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        assert len(x) % self.over.shape["rows"] == 0
        init = nn.initializers.lecun_normal()
        first = nn.with_logical_partitioning(init, ("in", "out"))
        last = nn.with_partitioning(init, ("columns", None))
        x = held(nn.Dense(8, kernel_init=first)(x), self.over)
        return nn.Dense(1, kernel_init=last)(nn.relu(x))[:, 0]


class Nnx(nnx.Module):
    """The same, of another framework."""

    def __init__(self, rngs: nnx.Rngs, over: Mesh) -> None:
        self.first, self.last = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)
        self.over = over

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(held(self.first(x), self.over)))[:, 0]


def pair(mesh: Any = laid) -> Pair:
    return Pair(
        linen=lambda mesh: Linen(mesh),
        nnx=lambda rngs, mesh: Nnx(rngs, mesh),
        batch=lambda rng, size: {"x": rng.standard_normal((size, 4)), "y": rng.random(size)},
        loss=lambda model, batch: ((model(batch["x"]) - batch["y"]) ** 2).mean(),
        mesh=mesh,
        axes={"batch": "rows", "in": ("stage", "rows"), "out": None},
        sizes={"full": {"columns": 2}},
    )


def grid_of(twins: str, devices: int, *overrides: str) -> tuple[Any, Grid]:
    case = reading.load(reading.PAIR_CASE, "tiny", ["data.global_batch=8", *overrides], twins=twins)
    return case, mesh.make(case, jax.devices()[:devices])


def test_arrays_and_batch_lie_where_the_pair_says() -> None:
    twins = module("own_mesh", pair())
    losses = []
    for devices in (8, 1):
        case, grid = grid_of(twins, devices)
        assert checking.faults(case) == []
        rows = devices // 2 or 1
        assert (dict(grid.mesh.shape)["rows"], grid.batch_parts) == (rows, rows)
        for impl in ("linen", "nnx"):
            trainer = train_step.make_trainer(case, impl, grid)
            inputs = train_step.make_inputs(case, grid)
            state = programs.fresh_state(trainer, inputs.seed)
            state, metrics = programs.step_of(trainer)(state, inputs)
            losses.append(float(metrics["loss"]))
            if devices == 8:
                layers = state["params"]
                assert layers["Dense_0"]["kernel"].sharding.spec == PartitionSpec("rows", None)
                assert layers["Dense_1"]["kernel"].sharding.spec == PartitionSpec("columns", None)
                assert layers["Dense_0"]["bias"].sharding.spec == PartitionSpec()
                assert inputs.batch["x"].sharding.spec == BATCH
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("mesh", "complaint"),
    [
        (lambda devices: 3, r"^--twins no_mesh.PAIR: mesh makes a int; must make a jax.sharding"),
        (lambda devices: 1 / 0, r"mesh of 1 devices does not run: ZeroDivisionError: division"),
        ("rows", r"mesh is a str; must be a function of devices"),
    ],
)
def test_what_is_no_mesh(mesh: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        families.load.__wrapped__(module("no_mesh", pair(mesh))).get("linen")


def test_what_a_mesh_of_its_own_leaves_no_room_for() -> None:
    first = module("first", pair(lambda devices: Mesh(np.array(devices[:1]), ("rows",))))
    with pytest.raises(UserError, match="mesh lays out 1 of 8 devices; must lay out all"):
        grid_of(first, 8)
    with pytest.raises(UserError, match=r"parallel.data=2: own_mesh has a mesh of its own"):
        grid_of(module("own_mesh", pair()), 8, "parallel.data=2")
