"""A case: one frozen tree of settings, each checked where it is made."""

import dataclasses
import math
from typing import Any, Literal

from harness.cases import case_files
from models.shared.settings import is_pattern, require


def _at_least(settings: Any, name: str, minimum: int) -> None:
    value = getattr(settings, name)
    require(settings, name, value is None or value >= minimum, f"must be at least {minimum}")


@dataclasses.dataclass(frozen=True)
class Data:
    """The batch: synthetic and the same every step, unless `tokens` names a file."""

    sequence_length: int = 2048
    """Tokens of a sequence."""
    per_device_batch: int = 1
    """Sequences of a step for each device that the batch is divided over."""
    global_batch: int | None = None
    """Sequences of a step on all devices together, in place of data.per_device_batch."""
    tokens: str | None = None
    """A file to train on: .npy of integers [B, T+1]; or .npz of `inputs`, `targets` and, for a
    family whose sequences may be packed, `segments`, each [B, T]. With a further axis of M batches
    in front, step i trains on batch i mod M."""
    segments: int | None = None
    """Into how many documents each synthetic sequence is divided; one when not given."""
    microbatches: int = 1
    """Into how many parts a step's batch is divided; only one part is in memory at a time."""

    def __post_init__(self) -> None:
        """Refuses an empty batch, and segments of a file, which tells its own."""
        sizes = ("sequence_length", "per_device_batch", "global_batch", "segments", "microbatches")
        for name in sizes:
            _at_least(self, name, 1)
        none = self.segments is None or self.tokens is None
        require(self, "segments", none, "not with data.tokens, a file that tells its own")


@dataclasses.dataclass(frozen=True)
class Run:
    """How long and from which seed a run trains, and how its step is compiled."""

    steps: int = 10
    """How many steps a run trains."""
    seed: int = 0
    """What initial parameters, synthetic data and dropout are drawn from."""
    allow_nonfinite: bool = False
    """Whether a run goes on after a loss that is not finite, instead of failing."""
    state_layout: Literal["default", "compiler"] = "default"
    """The order of an array's axes in device memory: JAX's usual one, or the one that the compiler
    finds best for the step. Values and checkpoints are the same."""
    overlap_collectives: bool = False
    """Whether the compiler is told to move tensors between devices while it computes (TPU only);
    takes a longer compilation and more memory."""
    offload_collectives: bool = False
    """Experimental: whether the SparseCores of a TPU that has them (v6e, v5p) gather weights and
    scatter gradients while it computes. What this gains is known from compiled programs, not from a
    chip."""
    mesh_rules: tuple[tuple[str, int, int], ...] = ()
    """Mesh sizes by machine: [pattern, data, fsdp], where the pattern is a regular expression for
    the whole type of instance. The first that matches counts. Where `parallel` gives one of the
    two sizes, the other takes the devices that are left."""
    align_random: bool = False
    """Whether the n-th random key that only one implementation draws with gives the same bits as
    the n-th of the other, so that two models with different keys draw alike."""

    def __post_init__(self) -> None:
        """Refuses an empty run, a seed out of range, and mesh rules that cannot be applied."""
        _at_least(self, "steps", 1)
        require(self, "seed", 0 <= self.seed < 2**32, "must lie in [0, 2**32)")
        for pattern, *sizes in self.mesh_rules:
            told = f"{pattern!r} is not a regular expression"
            require(self, "mesh_rules", is_pattern(pattern), told)
            fits = all(size >= 1 or size == -1 for size in sizes) and sizes != [-1, -1]
            require(self, "mesh_rules", fits, f"sizes of {pattern!r}: at least 1, or one -1")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is saved and when: the first and the last step, and every `period` steps."""

    enabled: bool = True
    """Whether anything is saved."""
    async_: bool = True
    """Whether training goes on while a checkpoint is written."""
    first: bool = True
    """Whether the first step is saved, and periods count from it (0, P, 2P), as in MaxText. false:
    a save comes after P, 2P, ... completed steps, which are steps P-1, 2P-1, ..., as in AXLearn."""
    period: int | None = None
    """Steps from one save to the next; null: only the first and the last step are saved."""
    keep_last: int | None = None
    """How many of the newest checkpoints are kept; null: all."""
    keep_every: int | None = None
    """Of those older than checkpoint.keep_last, one in so many steps is kept too; null: none."""
    directory: str | None = None
    """Where checkpoints are written; null: in the run's own folder."""

    def __post_init__(self) -> None:
        """Refuses a period of no step at all."""
        for name in ("period", "keep_last", "keep_every"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Eval:
    """Evaluations on data that is not trained on."""

    every: int | None = None
    """Evaluate after every so many steps, and after the last one; null: never."""
    tokens: str | None = None
    """A file in the form of data.tokens, of any number of sequences; null: synthetic data, drawn
    apart from what is trained on."""
    batches: int | None = None
    """Batches of one evaluation; null: all of the file, or one synthetic batch."""

    def __post_init__(self) -> None:
        """Refuses a period of no step at all, and what is never evaluated."""
        for name in ("every", "batches"):
            _at_least(self, name, 1)
        for name in ("tokens", "batches"):
            used = getattr(self, name) is None or self.every is not None
            require(self, name, used, "not without eval.every")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How many ways each kind of parallelism divides the work; one of them may be -1: the rest."""

    data: int = 1
    """Ways the batch is divided, each with a copy of the state. On several slices it is a multiple
    of their number."""
    fsdp: int = -1
    """Ways the batch and the state are divided."""
    tensor: int = 1
    """Ways features and attention heads are divided."""
    stage: int = 1
    """Pipeline stages that the layers are divided into."""

    def __post_init__(self) -> None:
        """Refuses a size that is neither a number of devices nor -1, and a second -1."""
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
    """In which order the stages of `parallel.stage` run microbatches."""

    repeats: int | None = None
    """Chunks of layers that each stage holds; null: one chunk for each of its layers."""
    group: int | None = None
    """Microbatches that pass a chunk before the next chunk has its turn; null: all."""

    def __post_init__(self) -> None:
        """Refuses no chunk and an empty group."""
        for name in ("repeats", "group"):
            _at_least(self, name, 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One benchmark case; `name` is its file's.

    model: the ModelConfig of `family`, or of the module `twins`. optim: the Settings of the
    optimizer `optimizer`. parallel: with the family's own axes.
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
    """The model: a folder of models/. --twins takes a module of your own instead."""
    optimizer: str = "adamw"
    """The optimizer: a file of harness/optimizers/, or a module of your own by its full name."""
    twins: str | None = None
    global_batch: int | None = None
    schedule_steps: int | None = None

    @property
    def shown(self) -> str:
        """What a reader calls it."""
        return case_files.shown(self.name, self.twins)


# Keys that choose which dataclass a section is of, and where a Case keeps them.
CHOICES = {"model.family": "family", "optim.name": "optimizer"}
# Settings that came after records were kept: told only where they are not at their defaults, so
# that a case is the same experiment that it was.
_LATER = {
    "model.family": Case.family,
    "optim.name": Case.optimizer,
    "data.segments": Data.segments,
    "data.microbatches": Data.microbatches,
    "run.offload_collectives": Run.offload_collectives,
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
