"""Parameters from an archive of numpy's: given arrays by their paths, and nothing else."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness.saving import stacking
from harness.saving.folders import ARCHIVE
from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import one_line, shortlist
from models.shared.trees import named_leaves


def read(path: str | Path, params: Any, stack: str | None = None) -> Any:
    """The parameters of an archive, path -> float32 array, on the devices of `params`.

    `params` is their tree of ShapeDtypeStructs with shardings. stack: where layers lie that may be
    given one by one, or in another split. Raises UserError unless the archive holds just these
    arrays, in these shapes.
    """
    wanted = named_leaves(params)
    try:
        inputs.require_file(path, path)
        with open(path, "rb") as file:  # of a damaged archive np.load leaves its own file open
            stored = np.load(file, allow_pickle=False)
            arrays = stacking.joined({name: stored[name] for name in stored.files}, stack)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable as {ARCHIVE}: {one_line(error)}") from None
    for verb, names in (
        ("lacks", wanted.keys() - arrays.keys()),
        ("holds, and this run has not,", arrays.keys() - wanted.keys()),
    ):
        if names:
            raise UserError(f"{path}: {verb} {shortlist(sorted(names))}")
    for name, leaf in wanted.items():
        array = arrays[name]
        if stacking.fits(name, array.shape, leaf.shape, stack):
            arrays[name] = array = array.reshape(leaf.shape)
        if array.shape != leaf.shape or array.dtype != np.float32:
            raise UserError(
                f"{path}: {name} is {array.dtype}{list(array.shape)},"
                f" must be float32{list(leaf.shape)}"
            )
    return jax.tree.unflatten(
        jax.tree.structure(params), [_placed(arrays[name], leaf) for name, leaf in wanted.items()]
    )


def _placed(array: np.ndarray, leaf: Any) -> jax.Array:
    """An array where the leaf lies, in the leaf's precision."""
    cast = array.astype(leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: cast[index])
