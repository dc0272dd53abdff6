"""The one train step of every family, and its ahead-of-time lowering for any mesh."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout

from harness import optimizers
from harness.cases import families
from harness.cases.settings import Case
from harness.optimizers import loss_scale
from harness.optimizers.optimizer import LearningRate, Optimizer, clipped
from harness.terminal.errors import UserError
from harness.training import accumulation, beginning, data, drawing, losses
from harness.training.compiler_options import Options, compiler_options
from harness.training.parallel import pipeline
from harness.training.parallel.mesh import Grid
from models.seam import Implementation, Outcome, Params
from models.shared import ops, partitioning

if TYPE_CHECKING:
    from models.shared.stateful import Carrier

# "step", "params", "opt_state" and, where there are such, "model_state" and "loss_scale"; 39 arrays
# for the decoder.
State = dict[str, Any]
Metrics = Mapping[str, jax.Array]
Init = Literal["shared", "native"]
NnxState = Literal["dict", "state", "jit"]  # how the NNX implementation's state crosses jit


class Trainer(NamedTuple):
    """Everything about training that can be said before an array exists."""

    init: Callable[[Any], State]  # of the seed
    step: Callable[[State, "Inputs"], tuple[State, Metrics]]
    state: State  # ShapeDtypeStructs that carry their shardings
    inputs: "Inputs"  # likewise
    grid: Grid
    model: Any  # the case's, with "auto" resolved
    state_layout: Any  # None, JAX's usual one, or Layout.AUTO, the compiler's
    compiler_options: Options
    carrier: "Carrier | None" = None  # where the state crosses jit as other than plain trees


class Inputs(NamedTuple):
    """What a step takes beside the state, the same every time.

    Seed and learning rates are among it, so that a run with others compiles nothing anew.
    """

    batch: data.Batch  # all batches, where the steps take several in turn
    seed: Any  # uint32
    schedule: Any  # a LearningRate whose numbers are arrays


class Update(NamedTuple):
    """What one step computes: the state after it, and what bisect looks into."""

    state: State
    metrics: Metrics
    gradients: Params


def make_trainer(
    case: Case,
    impl: str,
    grid: Grid,
    init: Init = "shared",
    nnx_state: NnxState = "dict",
) -> Trainer:
    """The training of `case` by the implementation called `impl`.

    init: whose parameters it starts from: those of the family's first implementation, which all
    share, or its own. nnx_state: other than "dict" only of a family that builds its NNX module.

    Raises UserError when the mesh cannot divide the parameters or the batch, and for a layout of
    the state that NNX's own objects cannot carry.
    """
    state_layout = None if case.run.state_layout == "default" else Layout.AUTO
    if state_layout is not None and nnx_state != "dict":
        raise UserError(
            f"run.state_layout={case.run.state_layout}: not with --nnx-state {nnx_state}"
        )
    family = families.of(case)
    implementation = drawing.implementation(case, impl, grid)
    initial = family.get(family.names[0]) if init == "shared" else implementation
    model = beginning.resolved(case, grid.platform)
    inputs = _abstract_inputs(case, grid)
    optimizer = optimizer_of(case, implementation, inputs.schedule)
    batches = data.count(case)

    def begin(seed: jax.Array) -> State:
        params, model_state = beginning.variables(initial, implementation, model, seed)
        params = pipeline.stacked(case, params, grid.mesh)
        state = {"step": jnp.int32(0), "params": params, **optimizer.init(params)}
        return state if model_state is None else state | {"model_state": model_state}

    def step(state: State, inputs: Inputs) -> tuple[State, Metrics]:
        key = beginning.step_key(inputs.seed, state["step"])
        optimizer = optimizer_of(case, implementation, inputs.schedule)
        batch = data.picked(inputs.batch, state["step"], batches)
        done = update(case, implementation, model, optimizer, state, batch, key)
        return done.state, done.metrics

    with grid.in_force():  # as in lower_init, which finds this trace
        shapes = jax.eval_shape(begin, inputs.seed)
    shardings = grid.shardings(shapes["params"], initial.logical_axes(model), family.lenient)
    state = jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        _state_shardings(shapes, shardings, grid),
    )
    carrier = None if nnx_state == "dict" else _carrier(nnx_state, case, model, optimizer, state)
    return Trainer(
        begin,
        step,
        state,
        inputs,
        grid,
        model,
        state_layout,
        compiler_options(case, grid.platform),
        carrier,
    )


def make_inputs(case: Case, grid: Grid) -> Inputs:
    """A step's inputs on the devices."""
    numbers = _numbers(case)
    return Inputs(data.make_batch(case, grid), *jax.device_put(numbers, grid.replicated))


def _abstract_inputs(case: Case, grid: Grid) -> Inputs:
    numbers = jax.tree.map(
        lambda number: jax.ShapeDtypeStruct((), number.dtype, sharding=grid.replicated),
        _numbers(case),
    )
    return Inputs(data.abstract_batch(case, grid), *numbers)


def _numbers(case: Case) -> tuple[np.uint32, Any]:
    """Seed and schedule."""
    steps = case.schedule_steps or case.run.steps
    schedule = optimizers.load(case.optimizer).schedule(case.optim, steps)
    return np.uint32(case.run.seed), schedule


def update(
    case: Case,
    implementation: Implementation,
    model: Any,
    optimizer: Optimizer,
    state: State,
    batch: data.Batch,
    key: jax.Array,
) -> Update:
    """The mathematics of one step: forward, backward, and the optimizer's update."""
    family = families.of(case)

    def forward(params: Params, model_state: Params | None, *rest: Any) -> Outcome:
        return losses.evaluate(family, implementation, model, (params, model_state), *rest)

    dtype = family.compute_dtype(model)
    weights = state["params"] if dtype is None else ops.cast(state["params"], dtype)
    scale = state["loss_scale"]["scale"] if "loss_scale" in state else None
    given = (forward, weights, state.get("model_state"), batch, key)
    if family.pipeline is not None and partitioning.is_sharded("stage"):
        outcome, gradients = pipeline.differentiated(
            case, implementation, model, weights, batch, key, scale
        )
    elif case.data.microbatches == 1:
        outcome, gradients = accumulation.differentiated(*given, scale)
    else:
        outcome, gradients = accumulation.accumulated(*given, family.counts, scale)
    if dtype is not None:
        gradients = jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, state["params"])
    params, changed, metrics = optimizer.update(gradients, state, state["params"])
    after: State = {"step": state["step"] + 1, "params": params, **changed}
    if outcome.model_state is not None:
        after["model_state"] = outcome.model_state
    found = {"loss": outcome.loss, **outcome.metrics}
    return Update(after, {**metrics, **found, **family.derived(found)}, gradients)


def optimizer_of(
    case: Case, implementation: Implementation, learning_rate: LearningRate
) -> Optimizer:
    """The implementation's own optimizer, or its family's, or the case's."""
    own = getattr(implementation, "optimizer", None) or families.of(case).optimizer
    made: Any = (own or optimizers.load(case.optimizer).make)(case.optim, learning_rate)
    if not isinstance(made, Optimizer):  # an optax transformation
        made = clipped(made, case.optim.clip_norm, learning_rate)
    if families.of(case).compute_dtype(case.model) != "float16":
        return made
    scaling = getattr(case.optim, "scaling", None)
    if scaling is None:
        raise UserError(f"model.dtype=float16: optim.name={case.optimizer} does not scale the loss")
    return loss_scale.scaled(made, scaling)


def _carrier(mode: Any, case: Case, model: Any, optimizer: Optimizer, state: State) -> "Carrier":
    from models.shared.stateful import Carrier

    build = families.of(case).module
    if build is None:
        raise UserError(f"--nnx-state {mode}: the family does not build an NNX module")
    if "model_state" in state:
        raise UserError(f"--nnx-state {mode}: can carry parameters and optimizer, no model state")
    return Carrier(mode, lambda: build(model), optimizer.init, state)


def _state_shardings(shapes: State, params: Any, grid: Grid) -> State:
    """Every tree in the state that has the parameters' structure lies as they do."""
    structure = jax.tree.structure(params)

    def is_like_params(tree: Any) -> bool:
        found = jax.tree.structure(tree)
        return bool(found is not None and found == structure)

    return jax.tree.map(
        lambda tree: params if is_like_params(tree) else grid.replicated,
        shapes,
        is_leaf=is_like_params,
    )


def lower_init(trainer: Trainer) -> jax.stages.Lowered:
    """The program that makes the state, of a seed, where it lies: no device ever holds all."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.state)
    with trainer.grid.in_force():
        return jax.jit(trainer.init, out_shardings=shardings).lower(trainer.inputs.seed)


def trace_step(trainer: Trainer) -> jax.stages.Traced:
    """The step's trace; it donates the state and leaves the metrics on every device."""
    if trainer.carrier is not None:
        with trainer.grid.in_force():
            traced: jax.stages.Traced = trainer.carrier.trace(
                trainer.step, trainer.inputs, trainer.grid.replicated
            )
        return traced
    formats = jax.tree.map(lambda leaf: Format(trainer.state_layout, leaf.sharding), trainer.state)
    jitted = jax.jit(
        trainer.step,
        donate_argnums=0,
        in_shardings=(formats, None),
        out_shardings=(formats, trainer.grid.replicated),
    )
    with trainer.grid.in_force():
        return jitted.trace(trainer.state, trainer.inputs)


def lay_out(trainer: Trainer, compiled: jax.stages.Compiled, state: State) -> State:
    """The state in the layout in which the compiled step takes it."""
    if trainer.state_layout is None:
        return state
    formats = compiled.input_formats[0][0]
    laid_out: State = jax.jit(lambda state: state, out_shardings=formats)(state)
    return laid_out


def compile_step(lowered: jax.stages.Lowered, trainer: Trainer) -> jax.stages.Compiled:
    """The executable of one of the trainer's programs, with the options of its case."""
    return lowered.compile(compiler_options=trainer.compiler_options)
