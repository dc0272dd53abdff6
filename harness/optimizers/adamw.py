"""AdamW under a warm-up and a cosine, behind a clip of the global norm."""

from dataclasses import dataclass
from typing import Any

from harness.optimizers.optimizer import LearningRate, Optimizer, clipped
from harness.optimizers.schedules import WarmupCosine, warmup_cosine
from models.shared.settings import require


@dataclass(frozen=True)
class Settings:
    """AdamW under a linear warm-up and a cosine."""

    learning_rate: float = 3e-5
    """The highest learning rate, at the end of the warm-up."""
    warmup_fraction: float = 0.1
    """Share of the schedule in which the rate rises in a line from 0."""
    final_fraction: float = 0.1
    """Share of the learning rate that is left at the end of the cosine."""
    schedule_steps: int | None = None
    """Steps of the schedule; null: run.steps."""
    b1: float = 0.9
    """Decay of the mean of gradients (Adam's beta 1)."""
    b2: float = 0.95
    """Decay of the mean of squared gradients (Adam's beta 2)."""
    epsilon: float = 1e-8
    """What is added to the root of the mean square before dividing by it."""
    weight_decay: float = 0.1
    """Share of each parameter that is taken off, times the learning rate."""
    clip_norm: float = 1.0
    """Largest global norm of a gradient; a larger one is scaled down to it."""

    def __post_init__(self) -> None:
        """Refuses a number outside the range in which the update means something."""
        for name in ("learning_rate", "weight_decay"):
            require(self, name, getattr(self, name) >= 0, "must be at least 0")
        for name in ("warmup_fraction", "final_fraction"):
            require(self, name, 0 <= getattr(self, name) <= 1, "must lie in [0, 1]")
        for name in ("b1", "b2"):
            require(self, name, 0 <= getattr(self, name) < 1, "must lie in [0, 1)")
        for name in ("epsilon", "clip_norm"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        steps = self.schedule_steps
        require(self, "schedule_steps", steps is None or steps >= 1, "must be at least 1")


def schedule(settings: Settings, steps: int) -> WarmupCosine:
    """The learning rate of a run of so many steps."""
    total = settings.schedule_steps or steps
    peak, final = settings.learning_rate, settings.final_fraction * settings.learning_rate
    return warmup_cosine(peak, final, int(settings.warmup_fraction * total), total)


def make(settings: Settings, learning_rate: LearningRate) -> Optimizer:
    """AdamW with weight decay on every parameter; its state is two moments and two counts."""
    return clipped(transformation(settings, learning_rate), settings.clip_norm, learning_rate)


def transformation(settings: Settings, learning_rate: LearningRate, **options: Any) -> Any:
    """AdamW as optax has it."""
    import optax  # takes long to import, and settings are read by commands that never train

    return optax.adamw(
        learning_rate,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        **options,
    )
