"""What the command line says of a run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.training.devices import Processes

if TYPE_CHECKING:  # bad input is told without JAX
    from harness.saving.restoring import What
    from harness.training.train_step import NnxState

CPU_TURNS_SECONDS, TURNS_SECONDS = 10.0, 60.0  # after which turns end, where nothing else is said


@dataclass(frozen=True)
class Options:
    """What the command line says of a run, checked as far as it can be without devices."""

    case: str
    size: str
    recipe: str
    overrides: tuple[str, ...]
    devices: int | None
    processes: Processes | None
    results: Any  # a place, see storage
    init: str
    restore: str | None
    profile: range
    tensorboard: bool
    twins: str | None = None
    nnx_state: "NnxState" = "dict"
    restore_what: "What | None" = None
