"""A case: one frozen tree of settings, each checked where it is made."""

import dataclasses
from typing import Any, Literal

from models.decoder.config import ModelConfig
from models.shared.requiring import require


def _at_least(settings: Any, name: str, minimum: int) -> None:
    value = getattr(settings, name)
    require(settings, name, value is None or value >= minimum, f"must be at least {minimum}")


@dataclasses.dataclass(frozen=True)
class Data:
    """The batch: the same tokens every step, synthetic unless `tokens` names a .npy file."""

    sequence_length: int = 2048
    per_device_batch: int = 1
    global_batch: int | None = None  # instead of per_device_batch x devices
    tokens: str | None = None  # an integer array [B, T+1]

    def __post_init__(self) -> None:
        """Refuses an empty batch."""
        for name in ("sequence_length", "per_device_batch", "global_batch"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Optim:
    """AdamW under a linear warm-up and a cosine."""

    learning_rate: float = 3e-5
    warmup_fraction: float = 0.1
    final_fraction: float = 0.1  # of learning_rate, at the schedule's end
    schedule_steps: int | None = None  # run.steps when not given
    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses rates that are none."""
        for name in ("learning_rate", "weight_decay"):
            _at_least(self, name, 0)
        for name in ("warmup_fraction", "final_fraction"):
            require(self, name, 0 <= getattr(self, name) <= 1, "must lie in [0, 1]")
        for name in ("b1", "b2"):
            require(self, name, 0 <= getattr(self, name) < 1, "must lie in [0, 1)")
        for name in ("epsilon", "clip_norm"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        _at_least(self, "schedule_steps", 1)


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, from which seed, what a loss that is not finite does, and how the step compiles.

    state_layout: the order of an array's axes in a device's memory, JAX's usual one or the one that
    the compiler finds best for the step. What the arrays hold, and a checkpoint, are the same.
    overlap_collectives: whether the compiler is told to move tensors between devices beside the
    computation (TPU only), for a longer compilation and more memory.
    """

    steps: int = 10
    seed: int = 0
    allow_nonfinite: bool = False
    state_layout: Literal["default", "compiler"] = "default"
    overlap_collectives: bool = False

    def __post_init__(self) -> None:
        """Refuses an empty run."""
        _at_least(self, "steps", 1)
        require(self, "seed", 0 <= self.seed < 2**32, "must lie in [0, 2**32)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is saved and when: the first and the last step, and every `period` steps."""

    enabled: bool = True
    async_: bool = True
    first: bool = True
    period: int | None = None
    keep_last: int | None = None
    keep_every: int | None = None
    directory: str | None = None  # the run's own folder when not given

    def __post_init__(self) -> None:
        """Refuses periods that are none."""
        for name in ("period", "keep_last", "keep_every"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One benchmark case; `name` is its file's, `twins` a module that is not the project's own."""

    name: str
    model: Any = dataclasses.field(default_factory=ModelConfig)  # or the ModelConfig of `twins`
    data: Data = Data()
    optim: Optim = Optim()
    run: Run = Run()
    checkpoint: Checkpoint = Checkpoint()
    twins: str | None = None

    @property
    def quantization(self) -> str:
        """The format of the matmuls; "none" where the model has no such setting."""
        return getattr(self.model, "quantization", "none")


SECTIONS: dict[str, type[Any]] = {
    "model": ModelConfig,
    "data": Data,
    "optim": Optim,
    "run": Run,
    "checkpoint": Checkpoint,
}
