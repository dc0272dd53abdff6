"""A family, an optimizer and a mesh axis are one file each: nothing else knows of them."""

from pathlib import Path

import jax
import numpy as np
import programs
import pytest

from harness.cases import reading
from harness.terminal.errors import UserError
from harness.training import checking, train_step
from harness.training.parallel import mesh
from models.shared.trees import named_leaves

CASE = str(Path(__file__).parent / "data" / "toy_case.yaml")


def trained(
    twins: str, impl: str, devices: int, *more: str
) -> tuple[list[float], train_step.State]:
    """The losses of three steps, and the state after them."""
    case = reading.load(CASE, "tiny", ("data.sequence_length=16", *more), twins=twins)
    grid = mesh.make(case, jax.devices()[:devices])
    trainer = train_step.make_trainer(case, impl, grid)
    step = programs.step_of(trainer)
    inputs = train_step.make_inputs(case, grid)
    state = programs.fresh_state(trainer, inputs.seed)
    losses = []
    for _ in range(3):
        state, metrics = step(state, inputs)
        assert 0 <= metrics["accuracy"] <= 1
        losses.append(float(metrics["loss"]))
    return losses, state


def test_a_family_and_an_optimizer() -> None:
    case = reading.load(CASE, twins="toy_family")
    assert checking.faults(case) == []
    assert case.model.embed == 768
    linen, nnx = (trained("toy_family", impl, 2) for impl in ("linen", "nnx_"))
    assert linen[0] == nnx[0]
    assert linen[0][0] > linen[0][2]
    assert linen[1].keys() == {"step", "params"}  # the optimizer holds nothing


def test_a_mesh_axis() -> None:
    one, _ = trained("toy_axis", "nnx_", 1)
    four, state = trained("toy_axis", "nnx_", 4, "parallel.lane=2")
    np.testing.assert_allclose(one, four, rtol=1e-5)
    (wide,) = (leaf for path, leaf in named_leaves(state["params"]).items() if "wide" in path)
    assert wide.sharding.spec == jax.sharding.PartitionSpec("fsdp", "lane")


def test_settings_of_their_own_are_settings() -> None:
    with pytest.raises(UserError, match=r"optim.weight_decay: no such key"):
        reading.load("01_baseline", overrides=["optim.name=toy_optimizer", "optim.weight_decay=0"])
    with pytest.raises(UserError, match=r"parallel.lane: no such key"):
        reading.load("01_baseline", overrides=["parallel.lane=2"])
    case = reading.load(CASE, overrides=["parallel.lane=2"], twins="toy_axis")
    flat = reading.flatten(case)
    assert (flat["parallel.lane"], flat["optim.name"]) == (2, "toy_optimizer")
    assert reading.from_flat(case.name, flat) == case
