"""From a checkpoint folder to a state on the devices: verified, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from harness.cases.settings import is_free
from harness.records.cautions import Caution
from harness.saving import archives, digest, files, folders, foreign, stacking
from harness.saving.faults import CheckpointError, Damaged
from harness.saving.files import StoredStep
from harness.terminal.errors import UserError
from harness.terminal.text import shortlist
from models.seam import OWN
from models.shared.trees import named_leaves

What = Literal["params", "all"]  # of a checkpoint's state


@dataclass(frozen=True)
class Restored:
    """What a run begins with."""

    # Whole; or only "params"; or without what `fresh` names, of the model's state that one
    # implementation has alone, in the checkpoint of another one.
    state: dict[str, Any]
    step: int | None  # the run goes on at step + 1; None: at 0, with a fresh optimizer
    path: str
    warnings: tuple[str, ...] = ()
    fresh: bool = False  # the state lacks what the run's implementation alone has


@dataclass(frozen=True)
class _Choice:
    """What is asked for: all of the state or its parameters, and whether of any case's.

    what: None takes all from the run's own case, and the parameters from any other.
    """

    case: Mapping[str, Any]  # the record's, of the run that begins
    what: What | None = "all"
    any_case: bool = False

    def of(self, step: StoredStep) -> What:
        """What of this step is taken; UserError for what it may not give."""
        if step.metadata is None:
            if self.what == "all":
                raise UserError(
                    f"{step.path}: --restore-what all: another program's checkpoint gives its"
                    " parameters alone"
                )
            return "params"
        if self.is_own(step):
            return self.what or "all"
        if not self.any_case:
            raise UserError(
                f"{step.path}: is of another case, {self._difference(step)};"
                " a run goes on only in its own case"
            )
        return self.what or "params"

    def is_own(self, step: StoredStep) -> bool:
        """Whether the step is of the run's own case."""
        return step.metadata is not None and step.metadata["case"]["hash"] == self.case["hash"]

    def told(self, step: StoredStep, taken: What) -> tuple[str, ...]:
        """What was taken, where that is not all of the run's own case."""
        if step.metadata is None:
            return (
                f"{step.path}: another program's checkpoint, without digests: taken as it was read",
            )
        if self.is_own(step) and taken == "all":
            return ()
        whose = (
            "of the same case"
            if self.is_own(step)
            else f"of another case, {self._difference(step)}"
        )
        caution = Caution.ALL_TAKEN if taken == "all" else Caution.PARAMETERS_TAKEN
        return (caution.told(path=step.path, whose=whose, step=step.number),)

    def _difference(self, step: StoredStep) -> str:
        return _difference(step.metadata["case"], self.case) if step.metadata else ""


def about(path: str | Path) -> dict[str, Any] | None:
    """What the newest readable step at a path tells of the run that saved it, as `case`.

    None where no step of this project's is; whatever else is wrong with it is told by `restore`.
    """
    folder = folders.place(path)
    steps = [folder / str(number) for number in reversed(folders.step_numbers(folder))]
    for step in [folder] if folders.is_step(folder) else steps:
        try:
            return files.read_step(step).metadata
        except (Damaged, CheckpointError, UserError, OSError):
            continue
    return None


def restore(
    path: str | Path, state: Any, case: Mapping[str, Any], what: What | None = None
) -> Restored:
    """Restores one step, or the newest good one of a folder, onto the devices of `state`.

    `state` is the tree of ShapeDtypeStructs with shardings, `case` the record's case. what: None
    takes the whole state from a checkpoint of the same case, and the parameters from any other.
    Raises UserError for a path without checkpoints or of other shapes, CheckpointError when
    nothing good is there. An archive of numpy's gives its parameters alone.
    """
    if str(path).endswith(folders.ARCHIVE):
        if what == "all":
            raise UserError(f"{path}: --restore-what all: an archive gives parameters alone")
        params = archives.read(path, state["params"], stacking.path_of(case))
        return Restored({"params": params}, None, str(path))
    folder = folders.place(path)
    choice = _Choice(case, what, any_case=True)
    if folders.is_step(folder):
        try:
            return _restore_step(folder, state, choice)
        except Damaged as error:
            raise CheckpointError(f"{folder}: {error}") from error
    restored = _restore_newest(folder, state, choice)
    if restored is None:
        raise foreign.refuse(folder)
    return restored


def restore_newest(directory: Any, state: Any, case: Mapping[str, Any]) -> Restored | None:
    """Restores the newest good step of a run's own folder, None when there never was one.

    A damaged step is renamed `N.bad`, told of in the warnings, and the one before it is tried.
    Raises UserError for one of another case.
    """
    return _restore_newest(directory, state, _Choice(case))


def _restore_newest(directory: Any, state: Any, choice: _Choice) -> Restored | None:
    warnings: list[str] = []
    for number in reversed(folders.step_numbers(directory)):
        path = directory / str(number)
        try:
            restored = _restore_step(path, state, choice)
        except Damaged as error:
            warnings.append(f"checkpoint {path}: {error}; {_set_aside(path)}")
        else:
            return replace(restored, warnings=(*warnings, *restored.warnings))
    if warnings:
        raise CheckpointError(f"no checkpoint is good: {'; '.join(warnings)}")
    bad = sorted(path.name for path in _set_aside_before(directory))
    if bad:
        raise CheckpointError(f"{directory}: no checkpoint is good, only {', '.join(bad)} are left")
    return None


def _restore_step(path: Any, state: Any, choice: _Choice) -> Restored:
    problem: Damaged | None = None
    try:
        step = files.read_step(path)
        state, missing = _without_own(step, state)
        taken = choice.of(step)
        wanted = _wanted(step, state, taken, stacking.path_of(choice.case))
        arrays = files.read_arrays(step, wanted)
    except Damaged as error:
        problem = error
    _raise_in_all_processes(problem)
    found = _tree_like(_part(state, taken), arrays)
    if step.metadata is not None:
        digests = digest.array_digests(found)
        changed = [name for name in digests if digests[name] != step.digests[name]]
        if changed:
            raise Damaged(f"changed since it was saved: {shortlist(changed)}")
    found = jax.tree.map(stacking.as_wanted, found, _part(state, taken))
    if taken == "params":
        return Restored(found, None, str(path), choice.told(step, taken))
    fresh = (f"{path}: {missing} is not in it: starts fresh",) if missing else ()
    warnings = (*choice.told(step, taken), *fresh)
    return Restored(found, step.number, str(path), warnings, bool(missing))


def _without_own(step: StoredStep, state: Any) -> tuple[Any, str]:
    """The state without what one implementation alone has, where another one's step lacks it."""
    model_state = state.get("model_state", {})
    if step.metadata is None or OWN not in model_state:
        return state, ""
    own = named_leaves({"model_state": {OWN: model_state[OWN]}})
    stored = {name: _described(leaf) for name, leaf in files.described(step).items()}
    missing = [name for name, leaf in own.items() if stored.get(name) != _described(leaf)]
    if not missing:
        return state, ""
    kept = {name: tree for name, tree in model_state.items() if name != OWN}
    rest = {name: tree for name, tree in state.items() if name != "model_state"}
    return rest | ({"model_state": kept} if kept else {}), shortlist(missing)


def _part(state: Any, taken: What) -> Any:
    return state if taken == "all" else {"params": state["params"]}


def _wanted(step: StoredStep, state: Any, taken: What, stack: str | None) -> dict[str, Any]:
    """The arrays to read; UserError unless they are what this run needs.

    Those at `stack` may be stacked by another split than this run's.
    """
    wanted = named_leaves(_part(state, taken))
    if step.metadata is None and not any(name.startswith("params/") for name in step.places):
        raise UserError(f"{step.path}: holds no parameters under params/")
    stored = files.described(step)
    for name, leaf in wanted.items():
        there = stored.get(name)
        if there is not None and stacking.fits(name, there.shape, leaf.shape, stack):
            wanted[name] = leaf = stacking.as_stored(leaf, there.shape)
        if there is None or _described(there) != _described(leaf):
            told = "not there" if there is None else _described(there)
            raise UserError(f"{step.path}: {name} is {told}, this run needs {_described(leaf)}")
    return wanted


def _described(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    there, here = theirs["config"], ours["config"]
    differing = [
        f"{key}={there.get(key)} there and {here.get(key)} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key) and not is_free(key)
    ]
    return f"{theirs['name']} ({shortlist(differing) or 'another size, recipe or tokens'})"


def _tree_like(like: Any, arrays: Mapping[str, Any]) -> Any:
    leaves = [arrays[name] for name in named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _raise_in_all_processes(problem: Damaged | None) -> None:
    """Raises it here, and something like it in the processes that could read their parts."""
    problems = [problem is not None]
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        problems = multihost_utils.process_allgather(np.array(problem is not None)).tolist()
    if any(problems):
        raise problem or Damaged(f"process {problems.index(True)} cannot read its part")


def _set_aside(path: Any) -> str:
    """Renames a damaged step so that nobody takes it for good; says what became of it."""
    if folders.is_foreign(path):
        return "left as it is"
    names = (f"{path.name}.bad{number}" for number in ("", *range(2, 1000)))
    target = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    if jax.process_index() != 0:
        return f"process 0 renames it {target.name}"
    try:
        path.rename(target)
    except OSError as error:
        return f"not renamed: {error.strerror}"
    return f"renamed {target.name}"


def _set_aside_before(directory: Any) -> list[Any]:
    present = directory.iterdir() if directory.is_dir() else ()
    return [path for path in present if ".bad" in path.name]
