"""Saves the state of a run while it trains: in the background or not, and never silently wrong."""

import errno
import functools
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax

from harness.cases.settings import Checkpoint
from harness.records import sealing
from harness.saving import digest, files, folders, restoring, waiting
from harness.saving.faults import CheckpointError, Damaged
from harness.saving.restoring import Restored, What
from harness.terminal.errors import UserError
from harness.terminal.text import one_line
from models.shared.trees import named_leaves, nested

T = TypeVar("T")

FORMAT = 1  # of the metadata
_TEMPORARY = ".orbax-checkpoint-tmp"  # in the name of a step that was never committed


def preload() -> None:
    """Begins to import Orbax, so that the first save need not wait for it.

    The process does not end before the import does: half of it would not survive that.
    """
    threading.Thread(target=files.orbax).start()


@dataclass
class Save:
    """What one save cost."""

    step: int
    bytes: int
    blocking_seconds: float  # training stood still; the wait for the previous save is part of it
    waited_for_previous_seconds: float
    background_seconds: float | None = None  # None until the save is committed

    @property
    def bytes_per_second(self) -> float | None:
        """From its own start, not that of the wait for the save before, to its commit."""
        if self.background_seconds is None:
            return None
        own = self.blocking_seconds - self.waited_for_previous_seconds
        return self.bytes / (own + self.background_seconds)

    @property
    def cost(self) -> dict[str, Any]:
        """Its entry in the record."""
        return {**asdict(self), "bytes_per_second": self.bytes_per_second}


class Checkpointer:
    """Saves to and restores from the checkpoint folder of one run.

    `about` goes into the metadata of each step: `case` as the record has it, and whatever else
    should be known of the writer. Of several processes each has one, and all call its methods at
    the same steps. No call waits longer than `timeout_seconds` for the storage; CheckpointError
    then says what was waited for.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: Checkpoint,
        about: Mapping[str, Any],
        timeout_seconds: float = 1200,
    ) -> None:
        self._given = directory
        self._settings = settings
        self._about = about
        self._timeout_seconds = timeout_seconds
        self._manager: Any = None
        self._pending: tuple[Save, waiting.Work[None]] | None = None
        self.saves: list[Save] = []

    @functools.cached_property
    def _directory(self) -> Any:
        """The folder; opened when it is first needed, so that the run's record tells of a fault."""
        return folders.place(self._given)

    @property
    def enabled(self) -> bool:
        """Whether anything is saved at all."""
        return self._settings.enabled

    def open(self, resume: bool = False) -> None:
        """Makes the folder and checks it, so that a run fails before it trains and not after.

        Raises UserError when it cannot be written, or holds checkpoints of a run that is not
        resumed.
        """
        if not self._settings.enabled:
            return
        numbers = folders.step_numbers(self._directory)
        if numbers and not resume:
            raise UserError(
                f"{self._directory}: already holds checkpoints{self._owner(numbers[-1])};"
                " resume the run they are of, or give another folder"
            )
        probe = self._directory / f".{uuid.uuid4().hex}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{self._directory}: checkpoints cannot be written there: {_reason(error)}"
            ) from None

    def due(self, step: int, last: int) -> bool:
        """Whether the state after this step is to be saved."""
        settings = self._settings
        if not settings.enabled:
            return False
        if step == last:
            return True
        done = step if settings.first else step + 1  # what the period counts
        if step == 0 and settings.first:
            return True
        return settings.period is not None and done % settings.period == 0

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Saves the state after `step`; returns as soon as its arrays may be overwritten.

        Raises CheckpointError when this save, or the one before it, fails.
        """
        begun = time.perf_counter()
        self.finish()
        waited = time.perf_counter() - begun
        self._bounded(f"{self._directory / str(step)}: not saved", lambda: self._begin(step, state))
        save = Save(
            step=step,
            bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
            blocking_seconds=time.perf_counter() - begun,
            waited_for_previous_seconds=waited,
            background_seconds=None if self._settings.async_ else 0.0,
        )
        self.saves.append(save)
        if self._settings.async_:
            self._pending = save, waiting.start(lambda: self._commit(save))
        else:
            self.committed(save.cost)

    def committed(self, cost: Mapping[str, Any]) -> None:
        """Is called with what each save cost, once it is safe, for whoever keeps account of them.

        Of one whose start was killed before that, with its step alone.
        """

    def check(self) -> None:
        """Raises CheckpointError when a save in the background has failed; takes no time."""
        if self._pending is not None and self._pending[1].done():
            self.finish()

    def finish(self) -> None:
        """Waits until the last save is committed; CheckpointError when that fails."""
        if self._pending is not None:
            (save, outcome), self._pending = self._pending, None
            self._wait(outcome, f"{self._directory / str(save.step)}: not committed")
            self.committed(save.cost)

    def resume(self, state: Any) -> Restored | None:
        """The newest good state in this run's folder, None before the first save.

        See `restoring.restore_newest`.
        """
        case = self._about["case"]
        return self._bounded(
            f"{self._directory}: not restored",
            lambda: restoring.restore_newest(self._directory, state, case),
        )

    def restore(self, path: str | Path, state: Any, what: What | None = None) -> Restored:
        """The state of another run's folder, or of one step in it; see `restoring.restore`."""
        case = self._about["case"]
        return self._bounded(
            f"{path}: not restored", lambda: restoring.restore(path, state, case, what)
        )

    def _owner(self, number: int) -> str:
        try:
            metadata = files.read_step(self._directory / str(number)).metadata
        except (Damaged, UserError):
            return ""
        return f" of {metadata['case']['name']}" if metadata else " of another program"

    def _begin(self, step: int, state: Mapping[str, Any]) -> None:
        """Copies the state off the devices and, unless that goes on in the background, writes."""
        if int(state["step"]) != step + 1:
            raise ValueError(f"the state is not that after step {step}")
        arrays = named_leaves(state)
        metadata = {
            "format": FORMAT,
            "step": step,
            "data": {"next_batch": step + 1},
            **self._about,
            "digests": digest.array_digests(state),
        }
        ocp = files.orbax()
        items = {
            folders.STATE: ocp.args.StandardSave(nested(arrays)),
            folders.METADATA: ocp.args.JsonSave(sealing.sealed(metadata)),
        }
        if self._manager is None:
            self._manager = self._make_manager(ocp)
        # Orbax would decide otherwise: it saves the first step it sees, and none before its last.
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def _make_manager(self, ocp: Any) -> Any:
        if jax.process_index() == 0 and self._directory.is_dir():  # a bucket has no empty folders
            for path in self._directory.iterdir():
                if _TEMPORARY in path.name:
                    shutil.rmtree(path) if isinstance(path, Path) else path.rmtree()
        policies = ocp.checkpoint_managers.preservation_policy
        kept = [policies.LatestN(self._settings.keep_last)]
        if self._settings.keep_every is not None:
            kept.append(policies.EveryNSteps(self._settings.keep_every, exact_interval=False))
        return ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=self._settings.async_,
                preservation_policy=policies.AnyPreservationPolicy(kept),
                save_root_metadata=False,
            ),
        )

    def _commit(self, save: Save) -> None:
        begun = time.perf_counter()
        try:
            self._manager.wait_until_finished()
        finally:
            save.background_seconds = time.perf_counter() - begun

    def _bounded(self, failure: str, work: Callable[[], T]) -> T:
        return self._wait(waiting.start(work), failure)

    def _wait(self, outcome: waiting.Work[T], failure: str) -> T:
        try:
            return waiting.wait(outcome, self._timeout_seconds)
        except (UserError, CheckpointError):
            raise
        except Exception as error:
            raise CheckpointError(f"{failure}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Why storage failed, in the words of the operating system where it gave any."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    known = (os.strerror(number) for number in (errno.ENOSPC, errno.EROFS, errno.EACCES))
    return next((words for words in known if words in str(error)), one_line(error))
