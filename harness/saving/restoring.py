"""From a checkpoint folder to a state on the devices: verified, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness.cases.settings import is_free
from harness.errors import UserError
from harness.saving import archives, digest, files, foreign
from harness.saving.faults import CheckpointError, Damaged
from harness.saving.files import StoredStep
from harness.text import shortlist
from harness.trees import named_leaves


@dataclass(frozen=True)
class Restored:
    """What a run begins with."""

    state: dict[str, Any]  # whole, or only "params" from another program's checkpoint
    step: int | None  # the run goes on at step + 1; None: at 0, with a fresh optimizer
    path: str
    warnings: tuple[str, ...] = ()


def restore(path: str | Path, state: Any, case: Mapping[str, Any]) -> Restored:
    """Restores one step, or the newest good one of a folder, onto the devices of `state`.

    `state` is the tree of ShapeDtypeStructs with shardings, `case` the record's case. Raises
    UserError for a path without checkpoints, of another case or of other shapes, CheckpointError
    when nothing good is there. Of an archive of numpy's the parameters alone are taken.
    """
    if str(path).endswith(archives.SUFFIX):
        return Restored({"params": archives.read(path, state["params"])}, None, str(path))
    folder = files.folder(path)
    if files.is_step(folder):
        try:
            return _restore_step(folder, state, case)
        except Damaged as error:
            raise CheckpointError(f"{folder}: {error}") from error
    restored = restore_newest(folder, state, case)
    if restored is None:
        raise foreign.refuse(folder)
    return restored


def restore_newest(directory: Any, state: Any, case: Mapping[str, Any]) -> Restored | None:
    """Restores the newest good step of a folder, None when there never was one.

    A damaged step is renamed `N.bad`, told of in the warnings, and the one before it is tried.
    """
    warnings: list[str] = []
    for number in reversed(files.step_numbers(directory)):
        path = directory / str(number)
        try:
            restored = _restore_step(path, state, case)
        except Damaged as error:
            warnings.append(f"checkpoint {path}: {error}; {_set_aside(path)}")
        else:
            return Restored(
                restored.state, restored.step, restored.path, (*warnings, *restored.warnings)
            )
    if warnings:
        raise CheckpointError(f"no checkpoint is good: {'; '.join(warnings)}")
    bad = sorted(path.name for path in _set_aside_before(directory))
    if bad:
        raise CheckpointError(f"{directory}: no checkpoint is good, only {', '.join(bad)} are left")
    return None


def _restore_step(path: Any, state: Any, case: Mapping[str, Any]) -> Restored:
    problem: Damaged | None = None
    try:
        step = files.read_step(path)
        wanted = _wanted(step, state, case)
        arrays = files.read_arrays(step, wanted)
    except Damaged as error:
        problem = error
    _raise_in_all_processes(problem)
    if step.metadata is None:
        params = _tree_like(state["params"], arrays, "params/")
        warning = f"{path}: another program's checkpoint, without digests: taken as it was read"
        return Restored({"params": params}, None, str(path), (warning,))
    whole = _tree_like(state, arrays)
    digests = digest.array_digests(whole)
    changed = [name for name in digests if digests[name] != step.digests[name]]
    if changed:
        raise Damaged(f"changed since it was saved: {shortlist(changed)}")
    return Restored(whole, step.number, str(path))


def _wanted(step: StoredStep, state: Any, case: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays to read; UserError unless they are what this run needs."""
    wanted = named_leaves(state)
    if step.metadata is None:
        wanted = {name: leaf for name, leaf in wanted.items() if name.startswith("params/")}
        if not any(name.startswith("params/") for name in step.places):
            raise UserError(f"{step.path}: holds no parameters under params/")
    elif step.metadata["case"]["hash"] != case["hash"]:
        raise UserError(
            f"{step.path}: is of another case, {_difference(step.metadata['case'], case)};"
            " a run goes on only in its own case"
        )
    stored = {name: _described(leaf) for name, leaf in files.described(step).items()}
    for name, leaf in wanted.items():
        if stored.get(name) != _described(leaf):
            raise UserError(
                f"{step.path}: {name} is {stored.get(name, 'not there')},"
                f" this run needs {_described(leaf)}"
            )
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


def _tree_like(like: Any, arrays: Mapping[str, Any], prefix: str = "") -> Any:
    leaves = [arrays[prefix + name] for name in named_leaves(like)]
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
    if files.is_foreign(path):
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
