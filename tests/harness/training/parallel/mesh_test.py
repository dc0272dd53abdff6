"""From a case's `parallel` to a mesh: sizes, shardings, and numbers that do not depend on them."""

from functools import cache

import jax
import numpy as np
import programs
import pytest
from jax.sharding import PartitionSpec

from harness.cases import reading
from harness.slices import topology
from harness.terminal.errors import UserError
from harness.training import train_step
from harness.training.parallel import mesh
from models.shared.partitioning import Rules, partition_spec


@cache
def losses(devices: int, *overrides: str, name: str = "03_dropout") -> list[list[float]]:
    """Loss and gradient norm of three steps of a batch of 8."""
    settings = ("data.global_batch=8", "data.sequence_length=16", "model.dtype=float32")
    case = reading.load(name, "tiny", (*settings, *overrides))
    grid = mesh.make(case, jax.devices()[:devices])
    trainer = train_step.make_trainer(case, "nnx", grid)
    step = programs.step_of(trainer)
    inputs = train_step.make_inputs(case, grid)
    state = programs.fresh_state(trainer, inputs.seed)
    rows = []
    for _ in range(3):
        state, metrics = step(state, inputs)
        rows.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return rows


@pytest.mark.parametrize(
    "overrides",
    [
        ("parallel.data=2",),
        ("parallel.data=-1", "parallel.fsdp=1"),
        ("parallel.data=2", "parallel.tensor=2"),
        ("parallel.tensor=4",),
    ],
)
def test_every_mesh_computes_the_same(overrides: tuple[str, ...]) -> None:
    np.testing.assert_allclose(losses(8, *overrides), losses(1), rtol=2e-5)


@pytest.mark.parametrize(
    ("overrides", "shape", "parts"),
    [
        ((), {"fsdp": 8}, 8),
        (("parallel.data=2",), {"data": 2, "fsdp": 4}, 8),
        (("parallel.tensor=2",), {"fsdp": 4, "tensor": 2}, 4),
        (("parallel.data=-1", "parallel.fsdp=2", "parallel.tensor=2"),
         {"data": 2, "fsdp": 2, "tensor": 2}, 4),
    ],
)  # fmt: skip
def test_sizes(overrides: tuple[str, ...], shape: dict[str, int], parts: int) -> None:
    grid = mesh.make(reading.load("01_baseline", "tiny", overrides), jax.devices())
    assert dict(grid.mesh.shape) == shape
    assert list(grid.mesh.shape) == list(shape)
    assert (grid.devices, grid.batch_parts, grid.slices) == (8, parts, 1)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("parallel.data=3",), r"parallel: data 3, fsdp -1: must multiply to 8, the number of"),
        (("parallel.fsdp=4",), r"parallel: fsdp 4: must multiply to 8, the number of devices"),
        (("parallel.stage=2",), r"parallel.stage=2: the family divides nothing over it"),
    ],
)
def test_what_the_devices_cannot_be(overrides: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        mesh.make(reading.load("01_baseline", "tiny", overrides), jax.devices())


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["parallel.data=0"], r"parallel.data=0: must be at least 1, or -1"),
        (["parallel.data=-1"], r"parallel.fsdp=-1: only one may be -1, and data is"),
    ],
)
def test_what_no_devices_can_be(overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        reading.load("01_baseline", "tiny", overrides)


def test_a_mesh_axis_divides_an_array_once() -> None:
    rules: Rules = {"a": ("data", "fsdp"), "b": "tensor", "c": "fsdp"}
    assert partition_spec(("a", "b"), rules) == PartitionSpec(("data", "fsdp"), "tensor")
    with pytest.raises(ValueError, match=r"its axes a, c lie on fsdp twice"):
        partition_spec(("a", "c"), rules)


def test_an_axis_that_does_not_divide_is_named() -> None:
    case = reading.load(
        "01_baseline", "tiny", ["model.heads=6", "model.kv_heads=6", "parallel.tensor=4"]
    )
    with pytest.raises(UserError, match=r"heads of 6 cannot be divided by the 4 devices"):
        train_step.make_trainer(case, "linen", mesh.make(case, jax.devices()))


def test_a_case_of_many_devices_can_be_taken_on_one() -> None:
    case = reading.load("30_pipeline", "tiny")
    with pytest.raises(UserError, match="must multiply to 1, the number of devices"):
        mesh.make(case, jax.devices()[:1])
    assert dict(mesh.make(mesh.alone(case), jax.devices()[:1]).mesh.shape) == {"fsdp": 1}
    ruled = mesh.alone(reading.load("20_honeycrisp"))
    assert dict(mesh.make(ruled, jax.devices()[:1]).mesh.shape) == {"fsdp": 1}


def test_a_row_of_chips_may_be_cut_for_two_axes() -> None:
    pytest.importorskip("libtpu", reason="libtpu describes slices; it comes with the extra tpu")
    grid = mesh.make(reading.load("20_honeycrisp"), topology.find("v6e-256").devices())  # 16 x 16
    assert dict(grid.mesh.shape) == {"data": 32, "fsdp": 8}
