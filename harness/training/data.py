"""The batch: one, the same every step, made or read on the host and laid over the mesh."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from harness.cases.settings import Case
from harness.errors import UserError
from harness.training.parallel import mesh as mesh_module

Batch = dict[str, Any]  # "inputs" and "targets", int32 [B, T]


def global_batch(case: Case, device_count: int) -> int:
    """B, the sequences of one step; UserError when the devices cannot divide it."""
    data = case.data
    batch = data.global_batch or data.per_device_batch * device_count
    if batch % device_count:
        raise UserError(
            f"data.global_batch={batch}: must be a multiple of the {device_count} devices"
        )
    return batch


def abstract_batch(case: Case, mesh: Mesh) -> Batch:
    """The batch's shapes and shardings."""
    shape = (global_batch(case, mesh.size), case.data.sequence_length)
    tokens = jax.ShapeDtypeStruct(shape, np.int32, sharding=mesh_module.batch_sharding(mesh))
    return {"inputs": tokens, "targets": tokens}


def make_batch(case: Case, mesh: Mesh) -> Batch:
    """The batch on the devices; targets are the inputs one position on."""
    batch = global_batch(case, mesh.size)
    tokens = _synthetic(case, batch) if case.data.tokens is None else _read(case, batch)

    def place(part: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(
            part.shape, mesh_module.batch_sharding(mesh), lambda index: part[index]
        )

    return {"inputs": place(tokens[:, :-1]), "targets": place(tokens[:, 1:])}


def _synthetic(case: Case, batch: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(case.run.seed))
    shape = (batch, case.data.sequence_length + 1)
    return generator.integers(0, case.model.vocab, shape, np.int32)


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
