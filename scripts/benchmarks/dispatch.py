"""Times what the host does to dispatch a step, by how NNX's state crosses jit: --help shows how."""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from measuring import Table, median, parser

from harness.cases import reading
from harness.cases.settings import Case
from harness.records import environment
from harness.terminal import cli
from harness.training import devices, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from models.shared.stateful import Carrier

_MODES: tuple[train_step.NnxState, ...] = ("dict", "state", "jit")
_ARRAYS = 219  # parameters; with two moments, two counts and the step: some 660 arrays
_ABOUT = """Milliseconds until the call of a compiled step returns, on one idle device: dict, plain
trees through jax.jit; state, an nnx.State through jax.jit; jit, model and nnx.Optimizer through
nnx.jit, all compiled ahead of time. The modes take turns of 20 steps. Medians, with the number of
samples. `many arrays` is a model of small parameters that are not stacked.""".replace("\n", " ")

Dispatch = Callable[[int], list[float]]


class Many(nnx.Module):
    """A module of many parameters, as layers that are not stacked have."""

    def __init__(self) -> None:
        for index in range(_ARRAYS):
            setattr(self, f"kernel_{index}", nnx.Param(jnp.zeros((8,))))


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    given = parser("dispatch", "Times the host's part of a step.", 10).parse_args(argv)
    here = devices.prepare(1)
    table = Table(given, "dispatch", "Host dispatch by state mode", _ABOUT)
    table.environment = environment.collect(here)
    case = reading.load("01_baseline", "tiny", ["data.per_device_batch=2"])
    grid = mesh.make(case, here)
    rows = [
        _row("decoder", _decoder(case, grid), given, table),
        _row("many arrays", _many(grid), given, table),
    ]
    table.write(["model", *(f"{mode} ms" for mode in _MODES), "state / dict", "jit / dict"], rows)
    return 0


def _row(name: str, made: tuple[int, list[Dispatch]], given: Namespace, table: Table) -> list[str]:
    arrays, dispatches = made
    seconds: dict[str, list[float]] = {mode: [] for mode in _MODES}
    for dispatch in dispatches:
        dispatch(5)
    for _ in range(given.repeats):
        for mode, dispatch in zip(_MODES, dispatches, strict=True):
            seconds[mode] += dispatch(20)
    table.samples[name] = seconds
    middle = [statistics.median(seconds[mode]) for mode in _MODES]
    ratios = [f"{value / middle[0]:.1f}" for value in middle[1:]]
    return [f"{name}, {arrays} arrays", *(median(seconds[mode], 1e-3) for mode in _MODES), *ratios]


def _decoder(case: Case, grid: Grid) -> tuple[int, list[Dispatch]]:
    """The tiny decoder's step in each mode, and how many arrays its state has."""
    dispatches = []
    for mode in _MODES:
        trainer = train_step.make_trainer(case, "nnx", grid, nnx_state=mode)
        inputs = train_step.make_inputs(case, grid)
        state = train_step.compile_step(train_step.lower_init(trainer), trainer)(inputs.seed)
        lowered = train_step.trace_step(trainer).lower()
        compiled = train_step.compile_step(lowered, trainer)
        dispatches.append(_dispatch(trainer.carrier, compiled, state, inputs))
    return len(jax.tree.leaves(trainer.state)), dispatches


def _many(grid: Grid) -> tuple[int, list[Dispatch]]:
    """A step that only scales each of many arrays, in each mode, and how many they are."""
    optimizer = optax.adamw(optax.constant_schedule(1e-3))

    def init_optimizer(params: Any) -> dict[str, Any]:
        return {"opt_state": optimizer.init(params)}

    def init() -> dict[str, Any]:
        params = nnx.to_pure_dict(nnx.state(Many(), nnx.Param))
        return {"step": jnp.int32(0), "params": params, **init_optimizer(params)}

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: leaf + 1, state), {"loss": batch}

    everywhere = grid.replicated
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        jax.eval_shape(init),
    )
    dispatches = []
    for mode in _MODES:
        state = jax.device_put(init(), everywhere)
        batch = jax.device_put(jnp.zeros(()), everywhere)
        if mode == "dict":
            carrier, traced = None, jax.jit(step, donate_argnums=0).trace(shapes, batch)
        else:
            carrier = Carrier(mode, Many, init_optimizer, shapes)
            traced = carrier.trace(step, batch, everywhere)
        dispatches.append(_dispatch(carrier, traced.lower().compile(), state, batch))
    return len(jax.tree.leaves(shapes)), dispatches


def _dispatch(carrier: Carrier | None, compiled: Any, state: Any, batch: Any) -> Dispatch:
    carried = carrier.enter(state) if carrier else state
    call = carrier.call(compiled) if carrier else compiled

    def dispatch(count: int) -> list[float]:
        nonlocal carried
        seconds = []
        for _ in range(count):
            begun = time.perf_counter()
            carried, metrics = call(carried, batch)
            seconds.append(time.perf_counter() - begun)
            jax.block_until_ready(
                (metrics, jax.tree.leaves(nnx.state(carried) if carrier else carried))
            )
        return seconds

    return dispatch


if __name__ == "__main__":
    cli.main(main)
