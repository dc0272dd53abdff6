"""AdamW as Megatron-LM trains GPTs: decay by an array's name, a rate that counts its updates.

In float16 the loss is scaled (loss_scale.py), and skipped steps do not count as updates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.optimizers.loss_scale import Scaling
from harness.optimizers.optimizer import LearningRate, Optimizer, State
from harness.optimizers.schedules import WarmupCosine
from models.shared.settings import require

# The last names of the paths of what decays; a stacked bias has as many axes as a kernel.
_DECAYED = ("kernel", "embedding")
_ADDED_TO_NORM = 1e-6  # so that a gradient of nothing can be clipped


@dataclass(frozen=True)
class Settings:
    """Megatron-LM's AdamW, and the scale of the loss in float16."""

    learning_rate: float = 6e-5
    """The highest learning rate, at the end of the warm-up."""
    min_learning_rate: float = 6e-6
    """The rate at the end of the cosine, and from there on."""
    warmup_fraction: float = 0.001
    """Share of optim.decay_steps in which the rate rises in a line from 0."""
    decay_steps: int = 430_000
    """Updates until the cosine ends; skipped steps do not count."""
    b1: float = 0.9
    """Decay of the mean of gradients (Adam's beta 1)."""
    b2: float = 0.95
    """Decay of the mean of squared gradients (Adam's beta 2)."""
    epsilon: float = 1e-8
    """What is added to the root of the mean square before dividing by it."""
    weight_decay: float = 0.1
    """Share of kernels and embeddings that is taken off, times the learning rate."""
    clip_norm: float = 1.0
    """Largest global norm of a gradient; a larger one is scaled down to it."""
    initial_loss_scale: float = 2.0**32
    """What the loss is multiplied by at first (float16 only)."""
    min_loss_scale: float = 1.0
    """The smallest scale of the loss (float16 only)."""
    loss_scale_window: int = 1000
    """Good steps in a row after which the scale doubles (float16 only)."""
    hysteresis: int = 2
    """Overflows since the scale last doubled from which on each halves it (float16 only)."""

    def __post_init__(self) -> None:
        """Refuses a number outside the range in which the update means something."""
        for name in ("learning_rate", "min_learning_rate", "weight_decay"):
            require(self, name, getattr(self, name) >= 0, "must be at least 0")
        rises = 0 <= self.warmup_fraction < 1
        require(self, "warmup_fraction", rises, "must lie in [0, 1)")
        for name in ("b1", "b2"):
            require(self, name, 0 <= getattr(self, name) < 1, "must lie in [0, 1)")
        for name in ("epsilon", "clip_norm", "min_loss_scale"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        for name in ("decay_steps", "loss_scale_window", "hysteresis"):
            require(self, name, getattr(self, name) >= 1, "must be at least 1")
        least = f"must be at least min_loss_scale={self.min_loss_scale}"
        require(self, "initial_loss_scale", self.initial_loss_scale >= self.min_loss_scale, least)

    @property
    def scaling(self) -> Scaling:
        """How the loss is scaled in float16."""
        return Scaling(
            self.initial_loss_scale, self.min_loss_scale, self.loss_scale_window, self.hysteresis
        )


def schedule(settings: Settings, steps: int) -> WarmupCosine:
    """The learning rate of each update; how long the run is does not matter."""
    peak, final = settings.learning_rate, settings.min_learning_rate
    # Megatron-LM does not round the number of updates in which the rate rises.
    warmup = np.float32(settings.warmup_fraction * settings.decay_steps)
    peak_, final_, half = (np.float32(rate) for rate in (peak, final, (peak - final) * 0.5))
    return WarmupCosine(peak_, final_, half, warmup, np.float32(settings.decay_steps + 1))


def make(settings: Settings, learning_rate: LearningRate) -> Optimizer:
    """The optimizer; its state is two moments and two counts of updates."""
    import jax
    import jax.numpy as jnp
    import optax

    adamw = optax.adamw(
        learning_rate,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        mask=_decays,
    )

    def init(params: Any) -> State:
        return {"opt_state": adamw.init(params)}

    @jax.named_scope("optimizer")
    def update(gradients: Any, state: State, params: Any) -> tuple[Any, State, Mapping[str, Any]]:
        norm = optax.tree.norm(gradients)
        scale = jnp.minimum(1, settings.clip_norm / (norm + _ADDED_TO_NORM))
        clipped = optax.tree.scale(scale, gradients)
        updates, opt_state = adamw.update(clipped, state["opt_state"], params)
        rate = learning_rate(state["opt_state"][0].count)
        metrics = {"grad_norm": norm, "learning_rate": rate}
        return optax.apply_updates(params, updates), {"opt_state": opt_state}, metrics

    return Optimizer(init, update)


def _decays(params: Any) -> Any:
    """For each array whether it decays."""
    import jax

    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) in _DECAYED, params
    )
