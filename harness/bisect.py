"""Finds where two implementations part: `python -m harness.bisect --case 03_dropout`."""

from argparse import BooleanOptionalAction
from functools import partial
from typing import Any

import jax

from harness import cli
from harness.bisecting import parting, telling
from harness.bisecting.capture import capture
from harness.bisecting.telling import Found
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.errors import UserError
from harness.randomness import alignment
from harness.records import storage
from harness.saving import restoring
from harness.saving.faults import CheckpointError
from harness.training import beginning, checking, data, devices, drawing, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from models.seam import OWN, Implementation
from models.shared.trees import perturbed


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="python -m harness.bisect",
        description="Computes one step twice, operation by operation, and says where it parts.",
    )
    add = arguments.add_argument
    add("--case", help="a case's name or a YAML file; needed without --twins")
    add("--twins", metavar="MODULE", help="a pair of your own, see models/seam.py")
    add("--a", metavar="NAME", help="the implementation that is right (default: the pair's first)")
    add("--b", metavar="NAME", help="the one to be compared with it (default: the pair's second)")
    add(
        "--size", default="tiny", choices=["tiny", "full"], help="full: needs its memory many times"
    )
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add(
        "--align-random",
        action=BooleanOptionalAction,
        default=True,
        help="the n-th key that one side alone draws with gives the bits of the other's n-th",
    )
    add("--restore", metavar="PATH", help="the parameters of a checkpoint, not fresh ones")
    return arguments


# At the scale with which a run begins gradients overflow, and tell nothing.
_LOSS_SCALE = 2**12


def main(argv: list[str]) -> int:
    """Compares what the arguments say; 1 when there is a difference."""
    arguments = parser().parse_args(argv)
    name = reading.given(arguments.case, arguments.twins)
    case = mesh.alone(reading.load(name, arguments.size, arguments.set, twins=arguments.twins))
    pair = families.of(case)
    names = (arguments.a or pair.names[0], arguments.b or pair.names[1])
    for name in names:
        families.chosen(pair, name)
    checking.require(case)
    grid = mesh.make(case, devices.prepare(None)[:1])
    a, b = (pair.get(name) for name in names)
    params = _parameters(case, pair.names[0], grid, arguments.restore, arguments.size)
    states = _model_states(case, names, grid)
    found = bisect(case, names, a, b, params, states, arguments.align_random)
    print(telling.text(found))
    for name, one in zip(names, (a, b), strict=True):
        drawn = drawing.drawn(case, one, grid)
        for line in [*drawing.findings(drawn), *drawing.idle(drawn)]:
            print(f"random: {name} {line}")
    # Only what has names of its own may draw with keys of its own.
    same = found.is_rounding and (not found.random or pair.matched is not None)
    return 0 if same else 1


def _parameters(case: Case, impl: str, grid: Grid, restore: str | None, size: str) -> Any:
    """A checkpoint's parameters, or fresh ones, each moved a little."""
    trainer = train_step.make_trainer(case, impl, grid)
    if restore is not None:
        about = {
            "name": case.name,
            "hash": reading.case_hash(case, size, "reference"),
            "config": reading.flatten(case),
        }
        try:
            with storage.errors_told(f"--restore {restore}"):
                return restoring.restore(restore, trainer.state, about).state["params"]
        except CheckpointError as error:
            raise UserError(f"--restore {restore}: {error}") from None
    return perturbed(
        jax.jit(trainer.init)(jax.numpy.uint32(case.run.seed))["params"], case.run.seed
    )


def _model_states(case: Case, names: tuple[str, str], grid: Grid) -> tuple[Any, Any]:
    """What else the models of both sides hold, fresh; None where there is nothing."""
    states = []
    for name in names:
        trainer = train_step.make_trainer(case, name, grid)
        held = "model_state" in trainer.state
        seed = jax.numpy.uint32(case.run.seed)
        states.append(jax.jit(trainer.init)(seed)["model_state"] if held else None)
    return states[0], states[1]


def bisect(
    case: Case,
    names: tuple[str, str],
    a: Implementation,
    b: Implementation,
    params: Any,
    model_states: tuple[Any, Any] = (None, None),
    align_random: bool = True,
) -> Found:
    """One step of two implementations from the same parameters, on the same batch and one device.

    Its learning rate is 1, that updates are as large as what they are added to: one of a real first
    step is 0, and of a later one so small that adding it would round most of it away.
    """
    grid = mesh.make(case, jax.devices()[:1])
    batches = jax.tree.map(jax.numpy.asarray, jax.device_get(data.make_batch(case, grid)))
    batch = data.picked(batches, 0, data.count(case))
    model = beginning.resolved(case, grid.platform)
    key = beginning.step_key(jax.numpy.uint32(case.run.seed), 0)
    numbers = alignment.numbered(*(drawing.drawn(case, side, grid) for side in (a, b)))
    sides = (a, b)
    if align_random:
        family = families.of(case)
        sides = (
            drawing.as_numbered(a, family, numbers[0]),
            drawing.as_numbered(b, family, numbers[1]),
        )
    runs = [
        partial(capture, _step(side, case, model), params, batch, key, state)
        for side, state in zip(sides, model_states, strict=True)
    ]
    one, other = (run() for run in runs)
    axes = a.logical_axes(model)
    layer_axes = {
        path: named.index("layers") if "layers" in named else None
        for path, named in checking.named_axes(axes).items()
    }
    return Found(
        names,
        one,
        other,
        layer_axes,
        parting.part(one, other, layer_axes),
        drawing.differing(names, numbers),
        (lambda change: runs[0](change=change), lambda change: runs[1](change=change)),
    )


def _step(implementation: Implementation, case: Case, model: Any) -> Any:
    """The train step's own update, with everything that it makes on the way."""
    optimizer = train_step.optimizer_of(case, implementation, lambda _: jax.numpy.float32(1))

    def step(params: Any, batch: data.Batch, key: jax.Array, model_state: Any) -> dict[str, Any]:
        state = {"step": jax.numpy.int32(0), "params": params, **optimizer.init(params)}
        if "loss_scale" in state:
            state["loss_scale"] |= {"scale": jax.numpy.float32(_LOSS_SCALE)}
        if model_state is not None:
            state["model_state"] = model_state
        done = train_step.update(case, implementation, model, optimizer, state, batch, key)
        updates = jax.tree.map(jax.numpy.subtract, done.state["params"], params)
        held = done.state.get("model_state", {})
        shared = {name: tree for name, tree in held.items() if name != OWN}
        return {
            "loss": done.metrics["loss"],
            "gradients": done.gradients,
            "updates": updates,
            "state": shared,
        }

    return step


if __name__ == "__main__":
    cli.main(main)
