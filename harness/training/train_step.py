"""The one train step of both implementations, and its ahead-of-time lowering for any mesh."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh

import models
from harness.cases.settings import Case
from harness.errors import UserError
from harness.training import data
from harness.training.compiler_options import Options, compiler_options
from harness.training.losses import cross_entropy
from harness.training.optimizers import adamw
from harness.training.parallel import mesh
from models import Implementation
from models.decoder.config import ModelConfig
from models.shared import ops
from models.shared.partitioning import axis_rules

if TYPE_CHECKING:
    from models.shared.stateful import Carrier

State = dict[str, Any]  # "step", "params", "opt_state": 39 arrays for the decoder
Metrics = dict[str, jax.Array]
NnxState = Literal["dict", "state", "jit"]  # how the NNX implementation's state crosses jit


class Trainer(NamedTuple):
    """Everything about training that can be said before an array exists."""

    init: Callable[[], State]
    step: Callable[[State, data.Batch], tuple[State, Metrics]]
    state: State  # ShapeDtypeStructs that carry their shardings
    batch: data.Batch  # likewise
    mesh: Mesh
    model: Any  # the case's, with "auto" resolved
    layout: Any  # of the state: None, JAX's usual one, or Layout.AUTO, the compiler's
    compiler_options: Options
    carrier: "Carrier | None" = None  # where the state crosses jit as other than plain trees


def make_trainer(
    case: Case,
    implementation: Implementation,
    initial: Implementation,
    over: Mesh,
    nnx_state: NnxState = "dict",
) -> Trainer:
    """The training of `case` by `implementation`, from the parameters `initial` makes.

    nnx_state: other than "dict" only of the project's NNX implementation.

    Raises UserError when the mesh cannot divide the parameters or the batch, and for a layout of
    the state that NNX's own objects cannot carry.
    """
    layout = None if case.run.state_layout == "default" else Layout.AUTO
    if layout is not None and nnx_state != "dict":
        raise UserError(
            f"run.state_layout={case.run.state_layout}: not with --nnx-state {nnx_state}"
        )
    platform = over.devices.flat[0].platform
    model = with_attention(case, platform)
    learning_rate = adamw.schedule(case.optim, case.run.steps)
    optimizer = optimizer_of(implementation, case)

    def init() -> State:
        params = initial.init(model, jax.random.key(case.run.seed, impl="threefry2x32"))
        return {"step": jnp.int32(0), "params": params, "opt_state": optimizer.init(params)}

    def step(state: State, batch: data.Batch) -> tuple[State, Metrics]:
        seed_key = jax.random.key(case.run.seed, impl="threefry2x32")
        step_key = jax.random.fold_in(seed_key, state["step"])

        def loss_of(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = implementation.apply(model, params, batch["inputs"], step_key)
            return cross_entropy(logits, batch["targets"])

        (loss, total_weights), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state["params"]
        )
        with jax.named_scope("optimizer"):
            norm = optax.tree.norm(gradients)
            clipped = adamw.clip(gradients, norm, case.optim.clip_norm)
            updates, opt_state = optimizer.update(clipped, state["opt_state"], state["params"])
            params = optax.apply_updates(state["params"], updates)
        metrics = {
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": learning_rate(state["step"]),
            "total_weights": total_weights,
        }
        return {"step": state["step"] + 1, "params": params, "opt_state": opt_state}, metrics

    with jax.set_mesh(over), axis_rules(mesh.RULES):  # as in lower_init, which finds this trace
        shapes = jax.eval_shape(init)
    shardings = mesh.parameter_shardings(shapes["params"], initial.logical_axes(model), over)
    state = jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        _state_shardings(shapes, shardings, over),
    )
    carrier = None if nnx_state == "dict" else models.carrier(nnx_state, model, optimizer, state)
    batch = data.abstract_batch(case, over)
    options = compiler_options(case, platform)
    return Trainer(init, step, state, batch, over, model, layout, options, carrier)


def optimizer_of(implementation: Implementation, case: Case) -> optax.GradientTransformation:
    """The implementation's own optimizer, or the project's."""
    own = getattr(implementation, "optimizer", None)
    if own is None:
        return adamw.optimizer(case.optim, case.run.steps)
    made: optax.GradientTransformation = own(case.optim, adamw.schedule(case.optim, case.run.steps))
    return made


def with_attention(case: Case, platform: str) -> Any:
    """The model with "auto" resolved; UserError for an attention that the platform lacks.

    Of other twins than the decoder, the model as it is.
    """
    model = case.model
    if not isinstance(model, ModelConfig):
        return model
    if model.attention == "auto":
        chosen = ops.attention_for(platform, case.data.sequence_length, model.head_dim)
        return replace(model, attention=chosen)
    needs = {"splash": "tpu", "cudnn": "gpu"}.get(model.attention, platform)
    if platform != needs:
        raise UserError(f"model.attention={model.attention}: needs a {needs}, this is a {platform}")
    return model


def _state_shardings(shapes: State, params: Any, over: Mesh) -> State:
    """Every tree in the state that has the parameters' structure lies as they do."""
    structure = jax.tree.structure(params)

    def is_like_params(tree: Any) -> bool:
        found = jax.tree.structure(tree)
        return bool(found is not None and found == structure)

    return jax.tree.map(
        lambda tree: params if is_like_params(tree) else mesh.replicated(over),
        shapes,
        is_leaf=is_like_params,
    )


def lower_init(trainer: Trainer) -> jax.stages.Lowered:
    """The program that makes the state where it lies: no device ever holds all of it."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trainer.state)
    with jax.set_mesh(trainer.mesh), axis_rules(mesh.RULES):
        return jax.jit(trainer.init, out_shardings=shardings).lower()


def trace_step(trainer: Trainer) -> jax.stages.Traced:
    """The step's trace; it donates the state and leaves the metrics on every device."""
    if trainer.carrier is not None:
        everywhere = mesh.replicated(trainer.mesh)
        with jax.set_mesh(trainer.mesh), axis_rules(mesh.RULES):
            traced: jax.stages.Traced = trainer.carrier.trace(
                trainer.step, trainer.batch, everywhere
            )
        return traced
    formats = jax.tree.map(lambda leaf: Format(trainer.layout, leaf.sharding), trainer.state)
    jitted = jax.jit(
        trainer.step,
        donate_argnums=0,
        in_shardings=(formats, None),
        out_shardings=(formats, mesh.replicated(trainer.mesh)),
    )
    with jax.set_mesh(trainer.mesh), axis_rules(mesh.RULES):
        return jitted.trace(trainer.state, trainer.batch)


def lay_out(trainer: Trainer, compiled: jax.stages.Compiled, state: State) -> State:
    """The state in the layout in which the compiled step takes it."""
    if trainer.layout is None:
        return state
    formats = compiled.input_formats[0][0]
    laid_out: State = jax.jit(lambda state: state, out_shardings=formats)(state)
    return laid_out


def compile_step(lowered: jax.stages.Lowered, trainer: Trainer) -> jax.stages.Compiled:
    """The executable of one of the trainer's programs, with the options of its case."""
    return lowered.compile(compiler_options=trainer.compiler_options)
