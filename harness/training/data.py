"""The batch of a step: made or read on the host, whole, and laid over the mesh before the steps."""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from harness.cases import families
from harness.cases.settings import Case
from harness.errors import UserError
from harness.training import token_files
from harness.training.parallel.mesh import Grid

# "inputs", "targets" and, where a sequence holds several documents, "segments", int32 [B, T]; of a
# file that holds several batches [M, B, T].
Batch = dict[str, Any]


def global_batch(case: Case, parts: int) -> int:
    """B, the sequences of one step; UserError when it cannot be divided into `parts`."""
    data = case.data
    batch = case.global_batch or data.global_batch or data.per_device_batch * parts
    if batch % parts:
        raise UserError(f"data.global_batch={batch}: must be a multiple of the {parts} devices")
    return batch


def count(case: Case) -> int:
    """M, the number of batches that the steps take in turn."""
    if case.data.tokens is None or families.of(case).batch is not None:
        return 1
    return token_files.read(case).batches


def abstract_batch(case: Case, grid: Grid) -> Batch:
    """The shapes and shardings of all batches."""
    sharding = _sharding(case, grid)
    arrays = _arrays(case, grid, shapes_only=True)
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
        for name, array in arrays.items()
    }


def make_batch(case: Case, grid: Grid) -> Batch:
    """All batches on the devices; targets are the inputs one position on."""
    sharding = _sharding(case, grid)

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return {name: place(array) for name, array in _arrays(case, grid).items()}


def picked(batches: Batch, step: Any, count: int) -> Batch:
    """The batch of one step out of `count`, which lie on the devices."""
    if count == 1:
        return batches
    return jax.tree.map(
        lambda all_: jax.lax.dynamic_index_in_dim(all_, step % count, keepdims=False), batches
    )


def _sharding(case: Case, grid: Grid) -> NamedSharding:
    """The sequences of a batch are divided; each device has its own of every batch."""
    if count(case) == 1:
        return grid.batch
    return NamedSharding(grid.mesh, PartitionSpec(None, *grid.batch.spec))


def _arrays(case: Case, grid: Grid, shapes_only: bool = False) -> dict[str, np.ndarray]:
    """All batches on the host, as they are or, which takes no time, of their shapes alone."""
    batch, length = global_batch(case, grid.batch_parts), case.data.sequence_length
    family = families.of(case)
    if case.data.segments is not None and not family.packed:
        raise UserError(
            f"data.segments={case.data.segments}: {case.family} takes one document a sequence"
        )
    if family.batch is not None:
        return family.batch(case.model, _generator(case), batch, length)
    if case.data.tokens is not None:
        return token_files.read(case, batch).arrays
    if shapes_only:
        tokens = np.broadcast_to(np.int32(0), (batch, length + 1))
    else:
        shape = (batch, length + 1)
        tokens = _generator(case).integers(0, case.model.vocab, shape, np.int32)
    arrays = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    if case.data.segments is None:
        return arrays
    segments = 1 + np.arange(length, dtype=np.int32) * case.data.segments // length
    return arrays | {"segments": np.broadcast_to(segments, (batch, length))}


def _generator(case: Case) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(case.run.seed))
