"""One step of one implementation, computed so that every value of it is kept."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from harness.bisecting.capture import Change, Trace, capture, compiled
from harness.bisecting.judging import Run
from harness.cases import families
from harness.cases.settings import Case
from harness.training import beginning, checking, data, losses, train_step
from harness.training.parallel.mesh import Grid
from models.seam import OWN, Implementation
from models.shared.trees import perturbed

# At the scale with which a run begins gradients overflow, and tell nothing.
_LOSS_SCALE = 2**12
_TOLD_BY_OTHERS = ("loss", "grad_norm", "learning_rate")


class Side(NamedTuple):
    """One of the two that are compared.

    run: computes it anew, with a change; None of one that was kept in a file, or is computed by
    several devices. layer_axes: for each parameter, the axis of its array along which layers are
    stacked.
    """

    name: str
    trace: Trace
    run: Run | None
    layer_axes: Mapping[str, int | None]


def side(
    name: str,
    case: Case,
    implementation: Implementation,
    params: Any,
    model_state: Any,
    grid: Grid,
    forward: bool = False,
) -> Side:
    """A step from these parameters, on the case's batch and the grid's devices.

    forward: its forward pass alone.

    Its learning rate is 1, that updates are as large as what they are added to: one of a real first
    step is 0, and of a later one so small that adding it would round most of it away.
    """
    batches = data.make_batch(case, grid)
    if grid.devices == 1:
        batches = jax.tree.map(jax.numpy.asarray, jax.device_get(batches))
    batch = data.picked(batches, 0, data.count(case))
    model = beginning.resolved(case, grid.platform)
    key = beginning.step_key(jax.numpy.uint32(case.run.seed), 0)
    step = (_forward if forward else _step)(implementation, case, model)
    given = step, params, batch, key, model_state
    axes = {
        path: named.index("layers") if "layers" in named else None
        for path, named in checking.named_axes(implementation.logical_axes(model)).items()
    }
    if grid.devices > 1:
        with grid.in_force():
            return Side(name, compiled(*given), None, axes)

    def run(change: Change | None = None) -> Trace:
        return capture(*given, change=change)

    return Side(name, run(), run, axes)


def fresh(case: Case, impl: str, grid: Grid) -> tuple[Any, Any]:
    """Parameters and model state, each moved a little; None for a model without state.

    State is moved upwards, as a variance is, and not what is of one side alone: zeros that a step
    begins with would hide by what it multiplies them.
    """
    trainer = train_step.make_trainer(case, impl, grid)
    seed = case.run.seed
    state = jax.jit(trainer.init)(jax.numpy.uint32(seed))
    params, held = perturbed(state["params"], seed), state.get("model_state")
    if held is None:
        return params, None
    shared = {name: tree for name, tree in held.items() if name != OWN}
    return params, held | perturbed(shared, seed, upwards=True)


def _forward(implementation: Implementation, case: Case, model: Any) -> Any:
    """The loss, with everything that it makes on the way."""

    def forward(params: Any, batch: data.Batch, key: jax.Array, model_state: Any) -> dict[str, Any]:
        variables = params, model_state
        family = families.of(case)
        made = losses.evaluate(family, implementation, model, variables, batch, key)
        return {"loss": made.loss, "metrics": made.metrics}

    return forward


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
        return {
            "loss": done.metrics["loss"],
            "metrics": {
                name: one for name, one in done.metrics.items() if name not in _TOLD_BY_OTHERS
            },
            "gradients": done.gradients,
            "updates": updates,
            "state": {name: tree for name, tree in held.items() if name != OWN},
        }

    return step
