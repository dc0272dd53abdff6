"""A case: one frozen tree of settings, each checked where it is made."""

import dataclasses
import math
from typing import Any, Literal

from models.shared.settings import is_pattern, require


def _at_least(settings: Any, name: str, minimum: int) -> None:
    value = getattr(settings, name)
    require(settings, name, value is None or value >= minimum, f"must be at least {minimum}")


@dataclasses.dataclass(frozen=True)
class Data:
    """The batch: synthetic and the same every step, unless `tokens` names a file.

    tokens: .npy of integers [B, T+1], or .npz of `inputs`, `targets` and, for a family whose
    sequences may be packed, `segments`, each [B, T]; with M batches before B, step i trains on
    the (i mod M)-th. segments: into how many documents a synthetic sequence is divided.
    microbatches: into how many a step divides its batch, to have one in memory at a time.
    """

    sequence_length: int = 2048
    per_device_batch: int = 1
    global_batch: int | None = None  # instead of per_device_batch x the devices that divide it
    tokens: str | None = None
    segments: int | None = None
    microbatches: int = 1

    def __post_init__(self) -> None:
        """Refuses an empty batch, and segments of a file, which tells its own."""
        sizes = ("sequence_length", "per_device_batch", "global_batch", "segments", "microbatches")
        for name in sizes:
            _at_least(self, name, 1)
        none = self.segments is None or self.tokens is None
        require(self, "segments", none, "not with data.tokens, a file that tells its own")


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, from which seed, what a loss that is not finite does, and how the step compiles.

    state_layout: the order of an array's axes in a device's memory, JAX's usual one or the one that
    the compiler finds best for the step. What the arrays hold, and a checkpoint, are the same.
    mesh_rules: types of instances as regular expressions, each with the sizes of data and fsdp; the
    first that matches the whole type of what is run on counts. Where `parallel` gives one of the
    two, the other takes the devices that are left.
    overlap_collectives: whether the compiler is told to move tensors between devices beside the
    computation (TPU only), for a longer compilation and more memory.
    align_random: whether keys that one implementation alone draws with give the bits of the other's
    of the same number, so that two whose keys differ draw alike.
    """

    steps: int = 10
    seed: int = 0
    allow_nonfinite: bool = False
    state_layout: Literal["default", "compiler"] = "default"
    overlap_collectives: bool = False
    mesh_rules: tuple[tuple[str, int, int], ...] = ()
    align_random: bool = False

    def __post_init__(self) -> None:
        """Refuses an empty run, and rules that are none."""
        _at_least(self, "steps", 1)
        require(self, "seed", 0 <= self.seed < 2**32, "must lie in [0, 2**32)")
        for pattern, *sizes in self.mesh_rules:
            require(self, "mesh_rules", is_pattern(pattern), f"{pattern!r} is no pattern")
            fits = all(size >= 1 or size == -1 for size in sizes) and sizes != [-1, -1]
            require(self, "mesh_rules", fits, f"sizes of {pattern!r}: at least 1, or one -1")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is saved and when: the first and the last step, and every `period` steps.

    first: the period then counts from the first step, as MaxText's: 0, P, 2P. Without it the steps
    that are done count, as AXLearn's: after P, 2P, ... of them, which are the steps P-1, 2P-1.
    keep_last: how many stay, all if not given; of those before, each that is at least keep_every
    steps after the one before it that stays.
    """

    enabled: bool = True
    async_: bool = True
    first: bool = True
    period: int | None = None
    keep_last: int | None = None
    keep_every: int | None = None
    directory: str | None = None  # the run's own folder when not given

    def __post_init__(self) -> None:
        """Refuses a period of no step at all."""
        for name in ("period", "keep_last", "keep_every"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Eval:
    """Evaluations on data that is not trained on: after every `every` steps, and after the last.

    tokens: a file as `data.tokens`, of any number of sequences; without one the data is synthetic,
    and drawn apart from what is trained on. batches: of an evaluation; None: all of the file, or 1.
    """

    every: int | None = None  # none at all
    tokens: str | None = None
    batches: int | None = None

    def __post_init__(self) -> None:
        """Refuses a period of no step at all, and what is never evaluated."""
        for name in ("every", "batches"):
            _at_least(self, name, 1)
        for name in ("tokens", "batches"):
            used = getattr(self, name) is None or self.every is not None
            require(self, name, used, "not without eval.every")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How many ways each kind of parallelism divides the work; -1, once: all devices left.

    data, fsdp: the batch; fsdp also the state. tensor: features and heads. stage: the layers.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    stage: int = 1

    def __post_init__(self) -> None:
        """Refuses sizes that are none, and a second -1."""
        free = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) == -1]
        for field in dataclasses.fields(self):
            size = getattr(self, field.name)
            require(self, field.name, size >= 1 or size == -1, "must be at least 1, or -1")
        for name in free[1:]:
            require(self, name, False, f"only one may be -1, and {free[0]} is")

    @property
    def fixed(self) -> int:
        """How many devices the sizes that are not left open make: the fewest that will do."""
        return math.prod(size for size in dataclasses.asdict(self).values() if size != -1)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """In which order the stages of `parallel.stage` run microbatches.

    repeats: chunks that a stage holds, of one layer each; as many as there are, when not given.
    group: microbatches that pass a chunk before the next one has its turn; all when not given.
    """

    repeats: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        """Refuses no chunk and an empty group."""
        for name in ("repeats", "group"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One benchmark case; `name` is its file's.

    model: the ModelConfig of `family`, a folder of models/, or of the module `twins`.
    optim: the Settings of the optimizer `optimizer`. parallel: with the family's own axes.
    global_batch, schedule_steps: no settings, but what a run that goes on keeps of its start,
    whatever devices and run.steps it now has; None: as the settings say.
    """

    name: str
    model: Any
    optim: Any
    data: Data = Data()
    run: Run = Run()
    checkpoint: Checkpoint = Checkpoint()
    eval: Eval = Eval()
    parallel: Parallel = Parallel()
    pipeline: Pipeline = Pipeline()
    family: str = "decoder"
    optimizer: str = "adamw"
    twins: str | None = None
    global_batch: int | None = None
    schedule_steps: int | None = None


# Keys that choose which dataclass a section is of, and where a Case keeps them.
CHOICES = {"model.family": "family", "optim.name": "optimizer"}
# Settings that came after records were kept: told only where they are not at their defaults, so
# that a case is the same experiment that it was.
_LATER = {
    "model.family": Case.family,
    "optim.name": Case.optimizer,
    "data.segments": Data.segments,
    "data.microbatches": Data.microbatches,
    "run.mesh_rules": [],
    "run.align_random": Run.align_random,
    **{f"parallel.{name}": size for name, size in dataclasses.asdict(Parallel()).items()},
    **{f"eval.{name}": value for name, value in dataclasses.asdict(Eval()).items()},
    **{f"pipeline.{name}": size for name, size in dataclasses.asdict(Pipeline()).items()},
}
NO_DEFAULT = object()


def later_default(key: str) -> Any:
    """The default of a setting that is told only where it has another; NO_DEFAULT of all others.

    A mesh axis of a family's own is as large as 1.
    """
    return _LATER.get(key, 1 if key.startswith("parallel.") else NO_DEFAULT)


def is_free(key: str) -> bool:
    """Whether runs of one experiment may differ in a setting.

    They may in how long they go, what they save, and on what they are evaluated.
    """
    return key == "run.steps" or key.startswith(("checkpoint.", "eval."))
