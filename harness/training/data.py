"""The batch of a step: made or read on the host, whole, and laid over the mesh before the steps."""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from harness.cases import families
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from harness.training import token_files
from harness.training.parallel.mesh import Grid

# "inputs", "targets" and, where a sequence holds several documents, "segments", int32 [B, T]; of a
# file that holds several batches [M, B, T]. Of a case with microbatches their number stands before
# B, which is then that of one of them.
Batch = dict[str, Any]


def global_batch(case: Case, parts: int) -> int:
    """B, the sequences of one step.

    UserError when it, or each of its microbatches, cannot be divided into `parts`.
    """
    data = case.data
    batch = case.global_batch or data.global_batch or data.per_device_batch * parts
    if batch % parts:
        raise UserError(f"data.global_batch={batch}: must be a multiple of the {parts} devices")
    if batch % (parts * data.microbatches):
        raise UserError(
            f"data.microbatches={data.microbatches}: must divide the {batch} sequences of a step"
            f" into parts that {parts} devices can share"
        )
    return batch


def count(case: Case) -> int:
    """M, the number of batches that the steps take in turn."""
    if case.data.tokens is None or families.of(case).batch is not None:
        return 1
    return token_files.read(case).batches


def abstract_batch(case: Case, grid: Grid) -> Batch:
    """The shapes and shardings of all batches."""
    sharding = _sharding(case, grid)
    arrays = on_host(case, grid, shapes_only=True)
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
        for name, array in arrays.items()
    }


def make_batch(case: Case, grid: Grid) -> Batch:
    """All batches on the devices; targets are the inputs one position on."""
    sharding = _sharding(case, grid)
    return placed(on_host(case, grid), sharding)


def evaluation_arrays(case: Case, grid: Grid) -> list[list[Batch]]:
    """The batches of an evaluation on the host, each in microbatches where these divide it.

    UserError for a file that holds too little.
    """
    size = global_batch(case, grid.batch_parts)
    batches = _evaluation(case, grid, size)
    share = size // case.data.microbatches
    held = len(next(iter(batches[0].values())))
    if case.data.microbatches == 1 or held % share:
        return [[batch] for batch in batches]
    return [
        [
            {name: array[start : start + share] for name, array in batch.items()}
            for start in range(0, held, share)
        ]
        for batch in batches
    ]


def _evaluation(case: Case, grid: Grid, size: int) -> list[Batch]:
    """The batches of an evaluation, of so many sequences where they are drawn."""
    wanted, tokens = case.eval.batches, case.eval.tokens
    if tokens is None:
        # Of the same seed, yet other numbers than those that are trained on.
        generator = np.random.Generator(np.random.PCG64([case.run.seed, 1]))
        return [_synthetic(case, size, generator) for _ in range(wanted or 1)]
    where = f"eval.tokens={tokens}"
    if families.of(case).batch is not None:
        raise UserError(f"{where}: {case.twins or case.family} makes batches of its own")
    arrays, count = token_files.read(case, section="eval")
    stacked = arrays if count > 1 else {name: array[None] for name, array in arrays.items()}
    if wanted is not None and wanted > count:
        raise UserError(f"eval.batches={wanted}: {where} holds {count}")
    held = stacked["inputs"].shape[1]
    if held % grid.batch_parts:
        raise UserError(
            f"{where}: batches of {held} sequences, which {grid.batch_parts} devices cannot share"
        )
    return [{name: array[n] for name, array in stacked.items()} for n in range(wanted or count)]


def placed(batch: Batch, sharding: NamedSharding) -> Batch:
    """A batch on the devices, of which each has its own sequences."""

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return {name: place(array) for name, array in batch.items()}


def picked(batches: Batch, step: Any, count: int) -> Batch:
    """The batch of one step out of `count`, which lie on the devices."""
    if count == 1:
        return batches
    return jax.tree.map(
        lambda all_: jax.lax.dynamic_index_in_dim(all_, step % count, keepdims=False), batches
    )


def _sharding(case: Case, grid: Grid) -> NamedSharding:
    """The sequences are divided; each device has its own of every batch and microbatch."""
    outer = (count(case) > 1) + (case.data.microbatches > 1)
    return NamedSharding(grid.mesh, PartitionSpec(*(None,) * outer, *grid.batch.spec))


def on_host(case: Case, grid: Grid, shapes_only: bool = False) -> dict[str, np.ndarray]:
    """All batches on the host, as they are or, which takes no time, of their shapes alone."""
    arrays = _whole(case, grid, shapes_only)
    microbatches, outer = case.data.microbatches, int(count(case) > 1)
    if microbatches == 1:
        return arrays
    return {
        name: array.reshape(*array.shape[:outer], microbatches, -1, *array.shape[outer + 1 :])
        for name, array in arrays.items()
    }


def _whole(case: Case, grid: Grid, shapes_only: bool) -> dict[str, np.ndarray]:
    """All batches, none of them divided."""
    batch = global_batch(case, grid.batch_parts)
    if case.data.tokens is not None and families.of(case).batch is None:
        return token_files.read(case, batch).arrays
    generator = np.random.Generator(np.random.PCG64(case.run.seed))
    return _synthetic(case, batch, generator, shapes_only)


def _synthetic(
    case: Case, batch: int, generator: np.random.Generator, shapes_only: bool = False
) -> dict[str, np.ndarray]:
    """One batch that is drawn, by the family or as tokens."""
    family, length = families.of(case), case.data.sequence_length
    if case.data.segments is not None and not family.packed:
        raise UserError(
            f"data.segments={case.data.segments}: {case.family} takes one document a sequence"
        )
    if family.batch is not None:
        return family.batch(case.model, generator, batch, length)
    if shapes_only:
        tokens = np.broadcast_to(np.int32(0), (batch, length + 1))
    else:
        shape = (batch, length + 1)
        tokens = generator.integers(0, case.model.vocab, shape, np.int32)
    arrays = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    if case.data.segments is None:
        return arrays
    segments = 1 + np.arange(length, dtype=np.int32) * case.data.segments // length
    return arrays | {"segments": np.broadcast_to(segments, (batch, length))}
