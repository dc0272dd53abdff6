"""What an optimizer is: how its state begins, and the one update of a step."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # settings can be read without JAX
    import jax
    import optax

State = Mapping[str, Any]


class LearningRate(Protocol):
    """The rate of step 0, 1, ..."""

    def __call__(self, step: "jax.Array", /) -> "jax.Array":
        """The rate of one step."""
        ...


class Optimizer(NamedTuple):
    """The one place where gradients become parameters: clip, skip and loss scale lie inside.

    init: of parameters, the entries of the training state that are the optimizer's: `opt_state`
    and, where the loss is scaled, `loss_scale`.
    update: of gradients, the training state and its parameters, the new parameters, those entries
    anew, and metrics, among them `grad_norm`, before any clip, and `learning_rate`.
    """

    init: Callable[[Any], State]
    update: Callable[[Any, State, Any], tuple[Any, State, "Mapping[str, jax.Array]"]]


def clipped(
    transformation: "optax.GradientTransformation", clip_norm: float, learning_rate: LearningRate
) -> Optimizer:
    """An optax transformation behind a clip of the global norm."""
    import jax
    import optax

    def init(params: Any) -> State:
        return {"opt_state": transformation.init(params)}

    @jax.named_scope("optimizer")
    def update(
        gradients: Any, state: State, params: Any
    ) -> tuple[Any, State, "Mapping[str, jax.Array]"]:
        norm = optax.tree.norm(gradients)
        kept = jax.tree.map(
            lambda g: jax.numpy.where(norm < clip_norm, g, g / norm * clip_norm), gradients
        )
        updates, opt_state = transformation.update(kept, state["opt_state"], params)
        updated = optax.apply_updates(params, updates)
        metrics = {"grad_norm": norm, "learning_rate": learning_rate(state["step"])}
        return updated, {"opt_state": opt_state}, metrics

    return Optimizer(init, update)
