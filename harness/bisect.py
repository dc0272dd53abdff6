"""Finds where two implementations part: `python -m harness.bisect --case 03_dropout`."""

from argparse import BooleanOptionalAction
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from harness import cli
from harness.bisecting import parting
from harness.bisecting.capture import Node, Trace, capture
from harness.bisecting.parting import Distance, Parting, Row
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.errors import UserError
from harness.randomness import alignment
from harness.records import storage
from harness.saving import restoring
from harness.saving.faults import CheckpointError
from harness.text import capped
from harness.training import beginning, checking, data, devices, drawing, train_step
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from models.seam import Implementation
from models.shared.trees import perturbed

_KINDS = ("activations", "gradients", "updates")
_LONGEST_TABLE = 8


@dataclass(frozen=True)
class Found:
    """Two traces of one step, and where they part; None: nowhere."""

    names: tuple[str, str]
    a: Trace
    b: Trace
    layer_axes: Mapping[str, int | None]
    parting: Parting | None
    random: list[str] = field(default_factory=list)  # where the sides draw with other keys


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
    print(text(found))
    for name, one in zip(names, (a, b), strict=True):
        drawn = drawing.drawn(case, one, grid)
        for line in [*drawing.findings(drawn), *drawing.idle(drawn)]:
            print(f"random: {name} {line}")
    # Only what has names of its own may draw with keys of its own.
    same = found.parting is None and (not found.random or pair.matched is not None)
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
    one, other = (
        capture(_step(side, case, model), params, batch, key, state)
        for side, state in zip(sides, model_states, strict=True)
    )
    axes = a.logical_axes(model)
    layer_axes = {
        path: named.index("layers") if "layers" in named else None
        for path, named in checking.named_axes(axes).items()
    }
    random = drawing.differing(names, numbers)
    return Found(names, one, other, layer_axes, parting.part(one, other, layer_axes), random)


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
        return {"loss": done.metrics["loss"], "gradients": done.gradients, "updates": updates}

    return step


def text(found: Found) -> str:
    """What was found, for a terminal."""
    tables = {kind: parting.rows(found.a, found.b, kind, found.layer_axes) for kind in _KINDS}
    told = ", ".join(
        f"{sum(row.distance is None for row in rows)} of {len(rows)} {kind}"
        for kind, rows in tables.items()
    )
    if found.parting is None:
        but = " but random draws" if found.random else ""
        return "\n".join([f"no difference{but}: loss, {told} are equal bit for bit", *found.random])
    lines = [_first(found, found.parting), f"equal bit for bit: {told}", *found.random]
    for kind, rows in tables.items():
        differing = [row for row in rows if row.distance is not None]
        if differing:
            lines.append(f"\n{kind} that differ, in order:")
            lines += capped(list(map(_difference, differing)), _LONGEST_TABLE)
    return "\n".join(lines)


def _first(found: Found, first: Parting) -> str:
    kind = "" if first.kind == "activations" else f"{first.kind.removesuffix('s')} of "
    lines = [f"first difference: {kind}{_layer(first.layer)}{first.tensor}"]
    if first.distance is not None:
        lines[0] += f": {_distance(first.distance)}"
    for name, node in zip(found.names, (first.a, first.b), strict=True):
        lines.append(f"  {name}: {_operation(node)}")
    return "\n".join(lines)


def _operation(node: Node | None) -> str:
    if node is None:
        return "every value on the way is one that the other side has too"
    shape = f"{node.values.dtype}{list(node.values.shape)}"
    with_ = [*sorted(node.parameters), *(f"{float(one):.9g}" for one in node.literals)]
    of = f" with {', '.join(with_)}" if with_ else ""
    scope = f", in {node.at.scope}" if node.at.scope else ""
    return f"{node.operation} {shape}{of}, at {node.at.source or '?'}{scope}"


def _difference(row: Row) -> str:
    return f"{_layer(row.layer)}{row.tensor}: {_distance(row.distance)}"


def _layer(layer: int | None) -> str:
    return "" if layer is None else f"layer {layer}, "


def _distance(distance: Distance | None) -> str:
    if distance is None or distance.relative != distance.relative:
        return "of another type or shape"
    ulps = "" if distance.ulps is None else f", at most {distance.ulps:,} ulps apart"
    return (
        f"{100 * distance.relative:.3g} % relative,"
        f" {distance.equal:,} of {distance.size:,} elements equal{ulps}"
    )


if __name__ == "__main__":
    cli.main(main)
