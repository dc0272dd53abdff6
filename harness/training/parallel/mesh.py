"""From devices to shardings: the mesh, and the one table that says which axis lies on it."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from harness.errors import UserError
from models.shared.partitioning import partition_spec

FSDP = "fsdp"

# logical axis -> mesh axis; None is replicated
RULES: dict[str, str | None] = {
    "batch": FSDP,
    "position": None,
    "activation_embed": None,
    "vocab": None,
    "embed_vocab": FSDP,
    "embed": FSDP,
    "mlp": None,
    "heads": None,
    "q_heads": None,
    "kv_heads": None,
    "kv": None,
    "kv_head_dim": None,
    "norm": None,
    "layers": None,
}


def make(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of one axis over all devices."""
    return jax.make_mesh((len(devices),), (FSDP,), (AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of tensors whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of scalars and whatever else every device holds."""
    return NamedSharding(mesh, PartitionSpec())


def parameter_shardings(shapes: Any, axes: Any, mesh: Mesh) -> Any:
    """A sharding for every array of a tree, from the logical axes at the same places.

    Raises UserError for an array whose sharded axis the devices cannot divide evenly.
    """

    def sharding(path: Any, shape: jax.ShapeDtypeStruct, names: tuple[str, ...]) -> NamedSharding:
        spec = partition_spec(names, RULES)
        for size, name, mesh_axis in zip(shape.shape, names, spec, strict=True):
            if mesh_axis is not None and size % mesh.shape[mesh_axis]:
                where = jax.tree_util.keystr(path, simple=True, separator="/")
                raise UserError(
                    f"{where}: its axis {name} of {size} cannot be divided by the"
                    f" {mesh.shape[mesh_axis]} devices"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, shapes, axes)
