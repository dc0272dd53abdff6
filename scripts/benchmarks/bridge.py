"""Measures what it costs to carry a Linen model over by flax's bridge: --help shows how."""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import optax
from flax import nnx
from measuring import Table, median, parser

from harness import hlo
from harness.cases import reading
from harness.cases.settings import Case
from harness.optimizers import adamw
from harness.records import environment
from harness.terminal import cli
from harness.training import beginning, data, devices, train_step
from harness.training.compiler_options import Options, compiler_options
from harness.training.losses import cross_entropy
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid
from models.decoder.linen import Transformer as LinenTransformer
from models.decoder.nnx import Transformer as NnxTransformer

_STEPS_AT_ONCE = 20
_ABOUT = """The tiny decoder of 01_baseline on one CPU device, trained in five ways that take turns.
By the seam: plain trees through jax.jit, the module made of them inside. As objects: model and
nnx.Optimizer through nnx.jit, as flax's guides do; the bridged module then holds the random state
that it was made with. Dispatch: milliseconds until the call returns, the device idle before; step:
until it is idle again. Medians, with the number of samples.""".replace("\n", " ")


@dataclass
class Way:
    """A way to train: `step` moves its own state on by one, and returns what it computed last."""

    name: str
    lower: Callable[[], Any]  # jax.stages.Lowered, or nnx.jit's of it
    step: Callable[[], Any]
    state: Callable[[], Any]


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    given = parser("bridge", "Times a decoder carried over by the bridge.", 10).parse_args(argv)
    here = devices.prepare(1)
    table = Table(given, "bridge", "What carrying a Linen model over by the bridge costs", _ABOUT)
    table.environment = environment.collect(here)
    case = reading.load("01_baseline", "tiny", ["data.per_device_batch=2"])
    grid = mesh.make(case, here)
    # As train_step does for a run; splash and cudnn are for other devices than this one.
    case = replace(case, model=beginning.resolved(case, here[0].platform))
    inputs = train_step.make_inputs(case, grid)
    batch = inputs.batch
    ways = [
        *(_by_the_seam(name, case, grid, inputs) for name in ("linen", "nnx", "bridge")),
        _as_objects("nnx", lambda: _own(case), case, batch),
        _as_objects("bridge", lambda: _bridged(case, batch), case, batch),
    ]
    header = ["way", "trace and lower s", "dispatch ms", "step ms", "program as Linen's"]
    header += ["temporaries MB", "arrays of a checkpoint", "of them random state"]
    table.write(header, _rows(ways, compiler_options(case, here[0].platform), given, table))
    return 0


def _rows(ways: list[Way], options: Options, given: Namespace, table: Table) -> list[list[str]]:
    lowering: dict[str, list[float]] = {}
    compiled = {}
    for way in ways:
        begun = time.perf_counter()
        lowered = way.lower()
        lowering[way.name] = [time.perf_counter() - begun]
        compiled[way.name] = lowered.compile(options)
        _timed(way)
    samples: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
    for _ in range(given.repeats):
        for way in ways:
            samples[way.name] += [_timed(way) for _ in range(_STEPS_AT_ONCE)]
    linens = hlo.fingerprint(hlo.parse(compiled[ways[0].name].as_text()))
    rows = []
    for way in ways:
        dispatch, step = ([pair[place] for pair in samples[way.name]] for place in (0, 1))
        program = compiled[way.name]
        same = hlo.fingerprint(hlo.parse(program.as_text())) == linens
        arrays = jax.tree.leaves(way.state())
        random = sum(_is_random(path) for path, _ in jax.tree.leaves_with_path(way.state()))
        table.samples[way.name] = {
            "dispatch_seconds": dispatch,
            "step_seconds": step,
            "lower_seconds": lowering[way.name],
        }
        rows.append(
            [
                way.name,
                f"{statistics.median(lowering[way.name]):.2f}",
                median(dispatch, 1e-3),
                median(step, 1e-3),
                "yes" if same else "no",
                f"{program.memory_analysis().temp_size_in_bytes / 1e6:.2f}",
                str(len(arrays)),
                str(random),
            ]
        )
    return rows


def _timed(way: Way) -> tuple[float, float]:
    begun = time.perf_counter()
    result = way.step()
    called = time.perf_counter()
    jax.block_until_ready((result, jax.tree.leaves(way.state())))
    return called - begun, time.perf_counter() - begun


def _is_random(path: Any) -> bool:
    return "rngs" in jax.tree_util.keystr(path)


def _by_the_seam(name: str, case: Case, grid: Grid, inputs: train_step.Inputs) -> Way:
    if name == "bridge":
        case = replace(case, twins="models.examples.bridge")
    trainer = train_step.make_trainer(case, name, grid)
    state = train_step.compile_step(train_step.lower_init(trainer), trainer)(inputs.seed)
    jitted = jax.jit(trainer.step, donate_argnums=0)

    def step() -> Any:
        nonlocal state
        state, metrics = jitted(state, inputs)
        return metrics

    return Way(f"{name}, by the seam", lambda: jitted.lower(state, inputs), step, lambda: state)


def _own(case: Case) -> nnx.Module:
    return NnxTransformer(case.model, nnx.Rngs(case.run.seed))


def _bridged(case: Case, batch: data.Batch) -> nnx.Module:
    module = nnx.bridge.ToNNX(LinenTransformer(case.model), rngs=nnx.Rngs(case.run.seed))
    nnx.bridge.lazy_init(module, batch["inputs"], jax.random.key(0))
    return module


def _as_objects(name: str, make: Callable[[], nnx.Module], case: Case, batch: data.Batch) -> Way:
    model = make()
    learning_rate = adamw.schedule(case.optim, case.run.steps)
    clip = optax.clip_by_global_norm(case.optim.clip_norm)
    adam = adamw.transformation(case.optim, learning_rate)
    optimizer = nnx.Optimizer(model, optax.chain(clip, adam), wrt=nnx.Param)

    def update(model: Any, optimizer: Any, batch: data.Batch) -> dict[str, jax.Array]:
        number = optimizer.step[...]
        key = jax.random.fold_in(jax.random.key(case.run.seed), number)

        def loss_of(model: Any) -> Any:
            return cross_entropy(model(batch["inputs"], key), batch)

        (loss, metrics), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model)
        norm = optax.tree.norm(gradients)
        rate = learning_rate(number)
        optimizer.update(model, gradients)
        return {"loss": loss, "grad_norm": norm, "learning_rate": rate, **metrics}

    jitted = nnx.jit(update, donate_argnums=(0, 1))
    return Way(
        f"{name}, as objects",
        lambda: jitted.lower(model, optimizer, batch),
        lambda: jitted(model, optimizer, batch),
        lambda: nnx.state((model, optimizer)),
    )


if __name__ == "__main__":
    cli.main(main)
