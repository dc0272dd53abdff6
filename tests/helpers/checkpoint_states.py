"""Small states like a trainer's, for the tests of checkpoints."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Parts of more than 1024 bytes, which the storage keeps without any checksum, and smaller ones.
SHARDED = {"kernel": (PartitionSpec(None, "fsdp"), (64, 64)), "scale": (PartitionSpec(), (16,))}
CASE = {"name": "03_dropout", "hash": "a" * 64, "config": {"model.dropout_rate": 0.1}}


def abstract_state(devices: int = 8) -> dict[str, Any]:
    """The ShapeDtypeStructs of a state over some of the devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("fsdp",))

    def leaf(spec: PartitionSpec, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    def params() -> dict[str, Any]:
        leaves = {name: leaf(spec, shape) for name, (spec, shape) in SHARDED.items()}
        return {"decoder": leaves, "logits": {"kernel": leaves["kernel"]}}

    count = leaf(PartitionSpec(), (), jnp.int32)
    moments = optax.ScaleByAdamState(count, params(), params())
    return {
        "step": count,
        "params": params(),
        "opt_state": (moments, optax.EmptyState(), optax.ScaleByScheduleState(count)),
    }


def make_state(step: int, devices: int = 8, seed: int = 0) -> dict[str, Any]:
    """Random bits, which nothing compresses, in the form of the state after a step."""
    generator = np.random.default_rng((seed, step))

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        words = generator.integers(0, 2**32, leaf.shape, np.uint32)
        value = (
            np.asarray(step + 1, np.int32) if leaf.dtype == jnp.int32 else words.view(leaf.dtype)
        )
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])

    return jax.tree.map(fill, abstract_state(devices))


def bits(state: Any) -> dict[str, bytes]:
    """The bytes of every array, by path: what no digest has a part in."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
