"""A run saved by either implementation and continued by either ends in the same bits."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import programs
import pytest
from checkpoint_states import bits
from jax.experimental.layout import Format, Layout

from harness.cases import reading
from harness.saving import digest
from harness.saving.checkpointer import Checkpointer
from harness.training import train_step
from harness.training.parallel import mesh
from harness.training.train_step import Trainer
from models.seam import USUAL_NAMES

CASE = reading.load(
    "08_checkpoint_async_true", "tiny", ("model.dropout_rate=0.1", "model.quantization=int8")
)
ABOUT = {"case": {"name": CASE.name, "hash": "a" * 64, "config": reading.flatten(CASE)}}
SAVED, LAST = 5, 9
SEED = jnp.uint32(CASE.run.seed)


@cache
def _trainer(impl: str) -> tuple[Trainer, jax.stages.Compiled]:
    trainer = train_step.make_trainer(CASE, impl, mesh.make(CASE, jax.devices()[:4]))
    return trainer, programs.step_of(trainer)


def _continue(impl: str, state: Any, first: int, checkpointer: Checkpointer) -> dict[str, bytes]:
    """Trains to the last step, saving what is due; returns the bits of the end."""
    trainer, step = _trainer(impl)
    inputs = train_step.make_inputs(CASE, trainer.grid)
    for number in range(first, LAST + 1):
        state, _ = step(state, inputs)
        if checkpointer.due(number, LAST):
            checkpointer.save(number, state)
    checkpointer.finish()
    return bits(state)


def _checkpointer(directory: Path) -> Checkpointer:
    checkpointer = Checkpointer(directory, CASE.checkpoint, ABOUT)
    checkpointer.open()
    return checkpointer


@pytest.mark.parametrize("saving", USUAL_NAMES)
def test_with_dropout_and_int8(saving: str, tmp_path: Path) -> None:
    state = programs.fresh_state(_trainer(saving)[0], SEED)
    whole = _continue(saving, state, 0, _checkpointer(tmp_path / "whole"))
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["0", "5", "9"]
    assert len(whole) == 39
    for continuing in USUAL_NAMES:
        checkpointer = _checkpointer(tmp_path / continuing)
        restored = checkpointer.restore(
            tmp_path / "whole" / str(SAVED), _trainer(continuing)[0].state
        )
        end = _continue(continuing, restored.state, SAVED + 1, checkpointer)
        assert end == whole, f"{saving} to {continuing}"


def test_a_state_in_another_layout_is_saved_digested_and_goes_on(tmp_path: Path) -> None:
    """Of every array the last axis is the outermost in memory; a checkpoint does not show it."""
    trainer, _ = _trainer("nnx")
    formats = jax.tree.map(
        lambda leaf: Format(Layout(tuple(reversed(range(leaf.ndim)))), leaf.sharding), trainer.state
    )
    with trainer.grid.in_force():
        jitted = jax.jit(trainer.step, in_shardings=(formats, None), out_shardings=(formats, None))
        step = jitted.lower(trainer.state, trainer.inputs).compile()
    laid_out = trainer._replace(state_layout=Layout.AUTO)
    fresh = programs.fresh_state(trainer, SEED)
    state = train_step.lay_out(laid_out, step, fresh)
    assert bits(state) == bits(fresh)
    assert digest.array_digests(state) == digest.array_digests(fresh)
    kernel = state["params"]["decoder"]["layers"]["mlp"]["wo"]["kernel"]
    assert kernel.format.layout.major_to_minor == (2, 1, 0)

    inputs = train_step.make_inputs(CASE, trainer.grid)
    state, _ = step(state, inputs)
    checkpointer = _checkpointer(tmp_path)
    checkpointer.save(0, state)
    checkpointer.finish()
    restored = checkpointer.restore(tmp_path / "0", trainer.state).state
    assert bits(restored) == bits(state)
    again, _ = step(train_step.lay_out(laid_out, step, restored), inputs)
    assert bits(again) == bits(step(state, inputs)[0])
