"""Dynamic loss scaling as Megatron-LM has it, around any optimizer.

In float16 small gradients vanish, so the loss is multiplied by a scale before it is differentiated.
Where that makes a gradient overflow the step is skipped: it counts as a step of the run, and of the
optimizer's state nothing moves but the scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.optimizers.optimizer import Optimizer, State

if TYPE_CHECKING:  # settings can be read without JAX
    import jax


@dataclass(frozen=True)
class Scaling:
    """How the scale begins and moves.

    window: the good steps in a row after which it doubles. hysteresis: the overflows from which on
    each halves it, down to `least`; they are counted since it last doubled, not in a row.
    """

    initial: float
    least: float
    window: int
    hysteresis: int


def scaled(optimizer: Optimizer, scaling: Scaling) -> Optimizer:
    """The optimizer given gradients of the scaled loss; its metrics tell the scale that was used.

    Of a skipped step norm and rate are not finite.
    """
    import jax
    import jax.numpy as jnp

    def init(params: Any) -> State:
        scaler = {
            "scale": jnp.float32(scaling.initial),
            "growth": jnp.int32(0),
            "hysteresis": jnp.int32(scaling.hysteresis),
        }
        return {**optimizer.init(params), "loss_scale": scaler}

    def update(
        gradients: Any, state: State, params: Any
    ) -> tuple[Any, State, Mapping[str, "jax.Array"]]:
        scaler = state["loss_scale"]
        plain = jax.tree.map(lambda g: g / scaler["scale"], gradients)
        good = jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(plain)]).all()
        moved, after, metrics = optimizer.update(plain, state, params)

        def kept(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)

        rest = {name: kept(tree, state[name]) for name, tree in after.items()}
        usual = {
            name: jnp.where(good, metrics[name], jnp.nan) for name in ("grad_norm", "learning_rate")
        }
        told = {**metrics, **usual, "loss_scale": scaler["scale"], "skipped": ~good}
        return kept(moved, params), {**rest, "loss_scale": _moved(scaler, good, scaling)}, told

    return Optimizer(init, update)


def _moved(scaler: Mapping[str, Any], good: "jax.Array", scaling: Scaling) -> dict[str, Any]:
    """The scaler after a step that was good, or skipped."""
    import jax.numpy as jnp

    growth = jnp.where(good, scaler["growth"] + 1, 0)
    grown = growth == scaling.window
    left = scaler["hysteresis"] - jnp.where(good, 0, 1)
    halved = ~good & (left <= 0)
    scale = scaler["scale"] * jnp.where(grown, jnp.float32(2), jnp.float32(1))
    smaller = jnp.maximum(scaler["scale"] / 2, jnp.float32(scaling.least))
    return {
        "scale": jnp.where(halved, smaller, scale),
        "growth": jnp.where(grown, 0, growth),
        "hysteresis": jnp.where(grown, scaling.hysteresis, left),
    }
