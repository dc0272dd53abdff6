"""The batch: one, the same every step, made or read on the host and laid over the mesh."""

from typing import Any

import jax
import numpy as np

from harness.cases import families
from harness.cases.settings import Case
from harness.errors import UserError
from harness.training.parallel.mesh import Grid

Batch = dict[str, Any]  # "inputs" and "targets", int32 [B, T]


def global_batch(case: Case, parts: int) -> int:
    """B, the sequences of one step; UserError when it cannot be divided into `parts`."""
    data = case.data
    batch = case.global_batch or data.global_batch or data.per_device_batch * parts
    if batch % parts:
        raise UserError(f"data.global_batch={batch}: must be a multiple of the {parts} devices")
    return batch


def abstract_batch(case: Case, grid: Grid) -> Batch:
    """The batch's shapes and shardings."""
    arrays = _arrays(case, grid, shapes_only=True)
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=grid.batch)
        for name, array in arrays.items()
    }


def make_batch(case: Case, grid: Grid) -> Batch:
    """The batch on the devices; targets are the inputs one position on."""

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, grid.batch, lambda index: array[index])

    return {name: place(array) for name, array in _arrays(case, grid).items()}


def _arrays(case: Case, grid: Grid, shapes_only: bool = False) -> dict[str, np.ndarray]:
    """The whole batch on the host."""
    batch, length = global_batch(case, grid.batch_parts), case.data.sequence_length
    own = families.of(case).batch
    if own is not None:
        return own(case.model, _generator(case), batch, length)
    if shapes_only:
        tokens = np.broadcast_to(np.int32(0), (batch, length + 1))
    elif case.data.tokens is None:
        shape = (batch, length + 1)
        tokens = _generator(case).integers(0, case.model.vocab, shape, np.int32)
    else:
        tokens = _read(case, batch)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def _generator(case: Case) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(case.run.seed))


def _read(case: Case, batch: int) -> np.ndarray:
    where = f"data.tokens={case.data.tokens}"
    try:
        tokens = np.load(str(case.data.tokens), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: not readable as .npy: {error}") from None
    shape = (batch, case.data.sequence_length + 1)
    if tokens.shape != shape or not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(
            f"{where}: holds {tokens.dtype} {list(tokens.shape)}, must be integers {list(shape)}"
            " (B, data.sequence_length + 1)"
        )
    if tokens.min() < 0 or tokens.max() >= case.model.vocab:
        raise UserError(f"{where}: tokens must lie in [0, model.vocab={case.model.vocab})")
    return tokens.astype(np.int32)
