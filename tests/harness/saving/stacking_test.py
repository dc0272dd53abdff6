"""Layers are the same ones in every split, and in no other order."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from harness.cases.settings import Checkpoint
from harness.saving import restoring, stacking
from harness.saving.checkpointer import Checkpointer
from harness.terminal.errors import UserError

STACK = "decoder/layers"
CASE = {"name": "30_pipeline", "hash": "a" * 64, "config": {"model.family": "gpt"}}
KERNEL = np.arange(8 * 6, dtype=np.float32).reshape(8, 6)  # a row a layer


def wanted(repeats: int, stages: int) -> Any:
    """The state of a run with this split, its features on two devices."""
    devices = np.array(jax.devices()[: 2 * stages]).reshape(stages, 2)
    mesh = Mesh(devices, ("stage", "tensor"))
    sharding = NamedSharding(mesh, PartitionSpec(None, "stage", "tensor"))
    leaf = jax.ShapeDtypeStruct((repeats, stages, 6), jnp.float32, sharding=sharding)
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec()))
    return {"step": count, "params": {"decoder": {"layers": {"kernel": leaf}}}}


def kernel_of(state: Any) -> jax.Array:
    kernel: jax.Array = state["params"]["decoder"]["layers"]["kernel"]
    return kernel


def test_a_stack_is_that_of_a_family_with_a_pipeline() -> None:
    assert stacking.path_of(CASE) == STACK
    assert stacking.path_of({"config": {}}) is None


@pytest.mark.parametrize(
    ("name", "stored", "fits"),
    [
        ("params/decoder/layers/kernel", (8, 1, 6), True),
        ("params/decoder/layers/kernel", (8, 6), True),
        ("opt_state/0/mu/decoder/layers/kernel", (4, 2, 6), True),
        ("params/decoder/layers/kernel", (4, 1, 6), False),
        ("params/decoder/layers/kernel", (6, 2, 4), False),
        ("params/decoder/layers/kernel", (2, 2, 2, 6), False),
        ("params/decoder/norm/kernel", (8, 1, 6), False),
    ],
)
def test_an_array_of_as_many_layers_fits(name: str, stored: Any, fits: bool) -> None:
    assert stacking.fits(name, stored, (2, 4, 6), STACK) is fits
    assert not stacking.fits(name, stored, (2, 4, 6), None)


@pytest.mark.parametrize("form", ["one by one", "along one axis", "along two"])
def test_an_archive_gives_its_layers_in_any_form(form: str, tmp_path: Path) -> None:
    forms: dict[str, Any] = {
        "one by one": {f"{STACK}/{number}/kernel": KERNEL[number] for number in range(8)},
        "along one axis": {f"{STACK}/kernel": KERNEL},
        "along two": {f"{STACK}/kernel": KERNEL.reshape(4, 2, 6)},
    }
    path = tmp_path / "params.npz"
    np.savez(path, **forms[form])
    kernel = kernel_of(restoring.restore(path, wanted(2, 4), CASE).state)
    np.testing.assert_array_equal(kernel, KERNEL.reshape(2, 4, 6))


def test_a_layer_too_few_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    layers: dict[str, Any] = {f"{STACK}/{number}/kernel": KERNEL[number] for number in (0, 1, 3)}
    np.savez(path, **layers)
    with pytest.raises(UserError, match="lacks decoder/layers/kernel"):
        restoring.restore(path, wanted(2, 4), CASE)
    few: dict[str, Any] = {f"{STACK}/kernel": KERNEL[:7]}
    np.savez(path, **few)
    with pytest.raises(UserError, match=r"is float32\[7, 6\], must be float32\[2, 4, 6\]"):
        restoring.restore(path, wanted(2, 4), CASE)


@pytest.mark.parametrize(("repeats", "stages"), [(8, 1), (4, 2), (2, 4)])
def test_a_checkpoint_is_taken_over_into_every_split(
    repeats: int, stages: int, tmp_path: Path
) -> None:
    like = kernel_of(wanted(4, 2))
    array = jax.device_put(KERNEL.reshape(4, 2, 6), like.sharding)
    saved = {"step": jnp.int32(4), "params": {"decoder": {"layers": {"kernel": array}}}}
    checkpointer = Checkpointer(tmp_path / "c", Checkpoint(), {"case": CASE})
    checkpointer.open()
    checkpointer.save(3, saved)
    checkpointer.finish()
    state = wanted(repeats, stages)
    found = restoring.restore(tmp_path / "c", state, CASE)
    kernel = kernel_of(found.state)
    np.testing.assert_array_equal(kernel, KERNEL.reshape(repeats, stages, 6))
    assert kernel.sharding == kernel_of(state).sharding
    assert found.step == 3
    other = {**CASE, "config": {}}  # of a family whose layers are in no stack
    if stages != 2:
        with pytest.raises(UserError, match=r"is float32\[4, 2, 6\], this run needs"):
            restoring.restore(tmp_path / "c", state, other)
