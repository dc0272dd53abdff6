"""Compiled programs, each compiled once in a test process: the twins lower to one text."""

from typing import Any

import jax

from harness import hlo
from harness.training import train_step
from harness.training.train_step import Trainer

_COMPILED: dict[Any, jax.stages.Compiled] = {}


def compiled(lowered: jax.stages.Lowered, trainer: Trainer) -> jax.stages.Compiled:
    """The executable of one of the trainer's programs."""
    options = sorted((trainer.compiler_options or {}).items())
    devices = tuple(device.id for device in trainer.grid.mesh.devices.flat)
    key = (hlo.stablehlo_sha256(lowered), str(options), devices, lowered.in_tree, lowered.out_tree)
    if key not in _COMPILED:
        _COMPILED[key] = train_step.compile_step(lowered, trainer)
    return _COMPILED[key]


def step_of(trainer: Trainer) -> jax.stages.Compiled:
    """The trainer's step."""
    return compiled(train_step.trace_step(trainer).lower(), trainer)


def fresh_state(trainer: Trainer, seed: jax.Array) -> Any:
    """The state that the first step is given."""
    return compiled(train_step.lower_init(trainer), trainer)(seed)
