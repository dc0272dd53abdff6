from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import toy_pipeline as toy
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from harness import hlo
from harness.cases import reading
from harness.terminal.errors import UserError
from harness.training import train_step
from harness.training.parallel import mesh, pipeline
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


SMALL = (
    "model.layers=4",
    "model.embed=16",
    "model.heads=4",
    "model.head_dim=4",
    "model.mlp=32",
    "model.vocab=64",
    "model.dtype=float32",
    "data.sequence_length=8",
    "data.global_batch=8",
    "data.microbatches=4",
    "optim.warmup_fraction=0",
    "optim.learning_rate=0.01",
    "parallel.tensor=1",
    "parallel.stage=1",
    "pipeline.group=4",
)


def trainer_of(devices: int, *overrides: str, impl: str = "nnx") -> train_step.Trainer:
    case = reading.load("30_pipeline", "tiny", [*SMALL, *overrides])
    return train_step.make_trainer(case, impl, mesh.make(case, jax.devices()[:devices]))


@cache
def losses(devices: int, *overrides: str) -> list[list[float]]:
    """Loss and gradient norm of three steps, with everything dropped out that can be."""
    trainer = trainer_of(devices, *overrides)
    case = reading.load("30_pipeline", "tiny", [*SMALL, *overrides])
    inputs = train_step.make_inputs(case, trainer.grid)
    step = programs.step_of(trainer)
    state = programs.fresh_state(trainer, inputs.seed)
    rows = []
    for _ in range(3):
        state, metrics = step(state, inputs)
        rows.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return rows


@pytest.mark.parametrize(
    "overrides",
    [
        ("parallel.stage=4", "parallel.tensor=2"),
        ("parallel.stage=2", "pipeline.repeats=2", "pipeline.group=2"),
    ],
)
def test_a_case_trains_the_same_on_stages(overrides: tuple[str, ...]) -> None:
    devices = 8 if "parallel.tensor=2" in overrides else 2
    np.testing.assert_allclose(losses(devices, *overrides), losses(1), rtol=2e-6)


def test_both_twins_are_one_program_on_stages() -> None:
    texts = [
        hlo.stablehlo_sha256(
            train_step.trace_step(trainer_of(2, "parallel.stage=2", impl=impl)).lower()
        )
        for impl in ("linen", "nnx")
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("parallel.stage=8",), "parallel.stage=8: must divide the 4 layers"),
        (
            ("parallel.stage=4", "parallel.tensor=2", "pipeline.repeats=2"),
            "pipeline.repeats=2: must be 1, for 4 layers on 4 stages",
        ),
        (
            ("parallel.stage=4", "parallel.tensor=2", "pipeline.group=2"),
            "pipeline.group=2: must be at least 4, the number of stages, and divide 4, the number"
            " of microbatches",
        ),
    ],
)
def test_what_cannot_run_on_stages_is_one_line(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError) as refused:
        trainer_of(8, *overrides)
    assert str(refused.value) == told
