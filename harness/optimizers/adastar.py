"""AdaStar as AXLearn has it: Adam's second moment, updates clipped and then averaged.

Everything is float32 and in this order: a gradient whose norm is too large drops the whole step;
the rest is clipped, divided by its root mean square over the steps, clipped again by itself, layer
for layer, and averaged. Decay is subtracted from every parameter, by the schedule alone and not by
the learning rate.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.optimizers.optimizer import LearningRate, Optimizer, State
from harness.optimizers.schedules import warmup_cosine
from models.shared.settings import is_pattern, require

if TYPE_CHECKING:  # settings can be read without JAX
    import jax
    import optax

_ADDED_TO_NORM = 1e-8  # so that a gradient of nothing can be clipped


@dataclass(frozen=True)
class Settings:
    """AdaStar's numbers; the defaults are those of Honeycrisp 3B."""

    learning_rate: float = 0.01
    """The highest learning rate, at the end of the warm-up."""
    warmup_steps: int = 5000
    """Steps in which the schedule rises in a line from 0 to 1; dropped steps do not count."""
    max_step: int = 750_000
    """Step at which the schedule's cosine ends; dropped steps do not count."""
    alpha: float = 0.005
    """What the schedule falls to."""
    decay: float = 0.95
    """Decay of the mean of squared gradients."""
    update_decay: float = 0.95
    """Decay of the mean of updates."""
    epsilon_square: float = 1e-30
    """What is added to the mean square before its root is divided by."""
    update_clip: float = 1.0
    """Largest root mean square of a layer's update."""
    weight_decay: float = 3.16e-4
    """Share of each parameter that is taken off, times the schedule alone."""
    drop_norm: float = 100.0
    """Global norm from which on a gradient's whole step is dropped."""
    max_norm: float = 1.0
    """Largest global norm of a gradient; a larger one is scaled down to it."""
    update_scales: tuple[tuple[str, float], ...] = ()
    """[pattern, factor]: what the updates of parameters are multiplied by whose whole
    path matches the regular expression; the first that matches counts."""
    layer_axes: tuple[tuple[str, int], ...] = ()
    """[pattern, axis]: along which axis layers are stacked in parameters whose whole path
    matches the regular expression; the first that matches counts."""

    def __post_init__(self) -> None:
        """Refuses a number outside the range in which the update means something."""
        for name in ("learning_rate", "weight_decay"):
            require(self, name, getattr(self, name) >= 0, "must be at least 0")
        require(self, "warmup_steps", self.warmup_steps >= 0, "must be at least 0")
        beyond = self.max_step > self.warmup_steps
        require(self, "max_step", beyond, f"must be more than warmup_steps={self.warmup_steps}")
        require(self, "alpha", 0 <= self.alpha <= 1, "must lie in [0, 1]")
        for name in ("decay", "update_decay"):
            require(self, name, 0 <= getattr(self, name) < 1, "must lie in [0, 1)")
        for name in ("epsilon_square", "update_clip", "drop_norm", "max_norm"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        for name in ("update_scales", "layer_axes"):
            for pattern, _ in getattr(self, name):
                require(self, name, is_pattern(pattern), f"{pattern!r} is not a regular expression")
        for pattern, axis in self.layer_axes:
            require(self, "layer_axes", axis >= 0, f"the axis of {pattern!r} must be at least 0")


class Rates(NamedTuple):
    """What a step multiplies updates and parameters by; numpy's numbers, or traced ones."""

    factor: LearningRate
    learning_rate: Any
    weight_decay: Any

    def __call__(self, step: "jax.Array") -> "jax.Array":
        """The learning rate of step 0, 1, ... of those that are not dropped."""
        return self.learning_rate * self.factor(step)


class AdaStarState(NamedTuple):
    """Both averages with their counts of steps, and the number of steps that were dropped."""

    averages: Any
    nonvalid_count: "jax.Array"


def schedule(settings: Settings, steps: int) -> Rates:
    """The rates of a run; how long it is does not matter."""
    factor = warmup_cosine(1, settings.alpha, settings.warmup_steps, settings.max_step + 1)
    return Rates(factor, *map(np.float32, (settings.learning_rate, settings.weight_decay)))


def make(settings: Settings, learning_rate: LearningRate) -> Optimizer:
    """AdaStar by the rates of `schedule`; any other function is taken for their factor."""
    import jax
    import jax.numpy as jnp
    import optax

    rates = (
        learning_rate
        if isinstance(learning_rate, Rates)
        else Rates(learning_rate, settings.learning_rate, settings.weight_decay)
    )
    averages = optax.chain(
        optax.scale_by_rms(
            settings.decay, settings.epsilon_square, eps_in_sqrt=True, bias_correction=True
        ),
        _clipped_by_layer(settings),
        optax.ema(settings.update_decay, debias=False),
    )

    def init(params: Any) -> State:
        return {"opt_state": AdaStarState(averages.init(params), jnp.int32(0))}

    @jax.named_scope("optimizer")
    def update(
        gradients: Any, state: State, params: Any
    ) -> tuple[Any, State, Mapping[str, jax.Array]]:
        before: AdaStarState = state["opt_state"]
        norm = optax.tree.norm(gradients)
        valid = norm < settings.drop_norm  # not so where any of it is not finite
        scale = jnp.minimum(1, settings.max_norm / (norm + _ADDED_TO_NORM))
        clipped = optax.tree.scale(scale, gradients)
        updates, after = averages.update(clipped, before.averages, params)
        count = before.averages[0].count
        factor = rates.factor(count)
        scales = _by_path(params, settings.update_scales, 1.0)
        moved = jax.tree.map(
            lambda p, u, scale: (
                p - factor * (rates.learning_rate * (scale * u) + rates.weight_decay * p)
            ),
            params,
            updates,
            scales,
        )
        dropped = before.nonvalid_count + jnp.where(valid, 0, 1)

        def kept(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(valid, n, o), new, old)

        opt_state = AdaStarState(kept(after, before.averages), dropped)
        metrics = {
            "grad_norm": norm,
            "learning_rate": rates(count),
            "gradient_scale": scale,
            "nonvalid_count": dropped,
            "dropped": ~valid,
            "schedule_step": count,
            "schedule_scale": factor,
            "weight_decay_rate": rates.weight_decay * factor,
        }
        return kept(moved, params), {"opt_state": opt_state}, metrics

    return Optimizer(init, update)


def _clipped_by_layer(settings: Settings) -> "optax.GradientTransformation":
    """Each array's update over its root mean square, where that is more than the clip.

    Of stacked layers each has its own.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def clip(update: jax.Array, layer_axis: int) -> jax.Array:
        over = [axis for axis in range(update.ndim) if axis != layer_axis]
        size = jnp.sqrt(jnp.mean(jnp.square(update), axis=over, keepdims=True))
        return update / jnp.maximum(1, size / settings.update_clip)

    def update(updates: Any, params: Any) -> Any:
        axes = _by_path(updates, settings.layer_axes, -1)
        return jax.tree.map(clip, updates, axes)

    return optax.stateless(update)


def _by_path(tree: Any, values: tuple[tuple[str, Any], ...], otherwise: Any) -> Any:
    """For each array the value of the first pattern that its whole path matches."""
    import jax

    def value(path: Any, _: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next((one for pattern, one in values if re.fullmatch(pattern, name)), otherwise)

    return jax.tree_util.tree_map_with_path(value, tree)
