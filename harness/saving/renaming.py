"""A checkpoint under the names of one side of a pair: what a side's own program can load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.saving import files, folders
from harness.saving.files import StoredStep
from harness.terminal.errors import UserError
from models.shared.trees import nested

Rename = Callable[[Mapping[str, Any]], dict[str, Any] | None]


def write(step: StoredStep, rename: Rename, path: Path) -> tuple[int, int]:
    """Writes a step's arrays into `path`, each tree of parameters or state under other names.

    rename: a tree's arrays by path under other names, None for any other tree. Returns how
    many arrays were written, and how many of them are as they were. Raises UserError where nothing
    can be renamed, or something lies at `path`.
    """
    if path.exists():
        raise UserError(f"{path}: is there already")
    arrays = files.read_arrays(step, files.described(step))
    written: dict[str, Any] = {}
    for prefix in _prefixes(arrays, rename):
        inside = {name.removeprefix(prefix): one for name, one in arrays.items()
                  if name.startswith(prefix)}  # fmt: skip
        renamed = rename(inside)
        if renamed is not None:
            written |= {prefix + name: np.asarray(one) for name, one in renamed.items()}
            arrays = {name: one for name, one in arrays.items() if not name.startswith(prefix)}
    if not written:
        raise UserError(f"{step.path}: holds the parameters of neither side")
    kept = len(arrays)
    ocp = files.orbax()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folders.place(path), nested(written | arrays))
    return len(written) + kept, kept


def _prefixes(arrays: Mapping[str, Any], rename: Rename) -> list[str]:
    """Where the trees that can be renamed begin, such as params/ and opt_state/0/mu/."""
    starts = {""} | {name[: place + 1] for name in arrays for place, letter in enumerate(name)
                     if letter == "/"}  # fmt: skip
    found: list[str] = []
    for start in sorted(starts, key=len):
        if any(start.startswith(one) for one in found):
            continue
        inside = {name.removeprefix(start): one for name, one in arrays.items()
                  if name.startswith(start)}  # fmt: skip
        if rename(inside) is not None:
            found.append(start)
    return found
