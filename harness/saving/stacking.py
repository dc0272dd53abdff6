"""Layers that a pipeline divides, stacked [repeats, stages, ...]: taken over from any other split.

Layer r * stages + s lies at [r, s], so that the first two axes as one are the layers in order.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from harness.cases import families
from harness.cases.settings import Case
from models.shared.partitioning import mesh_axes

Shape = tuple[int, ...]


def path_of(case: Mapping[str, Any]) -> str | None:
    """Where the stack of layers lies among the parameters of a record's case, if it has one."""
    config = case["config"]
    family = families.load(config.get("twins"), config.get("model.family", Case.family))
    return None if family.pipeline is None else "/".join(family.pipeline.layers)


def fits(name: str, stored: Shape, wanted: Shape, stack: str | None) -> bool:
    """Whether an array at a path is one of the stack, and holds the layers that are wanted.

    It may be stacked along one axis, [layers, ...], or two.
    """
    if stack is None or f"/{stack}/" not in f"/{name}" or len(wanted) < 2:
        return False
    outer = len(stored) - len(wanted[2:])
    same = stored[outer:] == wanted[2:] and math.prod(stored[:outer]) == math.prod(wanted[:2])
    return outer in (1, 2) and same


def joined(arrays: Mapping[str, np.ndarray], stack: str | None) -> dict[str, np.ndarray]:
    """Arrays whose layers are given one by one, STACK/0/..., as stacks of them."""
    if stack is None:
        return dict(arrays)
    pattern = re.compile(rf"{re.escape(stack)}/(\d+)/(.+)")
    layers: dict[str, list[str]] = {}
    for name in arrays:
        if one := pattern.fullmatch(name):
            layers.setdefault(f"{stack}/{one[2]}", []).append(name)
    made = dict(arrays)
    for name, parts in layers.items():
        inner = name.removeprefix(f"{stack}/")
        in_order = [f"{stack}/{number}/{inner}" for number in range(len(parts))]
        alike = len({arrays[part].shape for part in parts}) == 1
        if set(in_order) == set(parts) and alike and name not in made:
            made[name] = np.stack([made.pop(part) for part in in_order])
    return made


def as_stored(leaf: jax.ShapeDtypeStruct, stored: Shape) -> jax.ShapeDtypeStruct:
    """The wanted array as it is stored, divided over the devices as far as that is alike."""
    sharding = leaf.sharding
    if not isinstance(sharding, NamedSharding):
        return jax.ShapeDtypeStruct(stored, leaf.dtype, sharding=sharding)
    spec = [*sharding.spec, *[None] * (len(leaf.shape) - len(sharding.spec))]
    stages, rest = spec[1], spec[2:]
    parts = math.prod(sharding.mesh.shape[axis] for axis in mesh_axes(stages))
    outer = stored[: len(stored) - len(rest)]
    dividing = [axis for axis, size in enumerate(outer) if size % parts == 0]
    over = [stages if axis in dividing[-1:] else None for axis in range(len(outer))]
    divided = NamedSharding(sharding.mesh, PartitionSpec(*over, *rest))
    return jax.ShapeDtypeStruct(stored, leaf.dtype, sharding=divided)


def as_wanted(array: jax.Array, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """A stored array in the split that is wanted, where it lies there."""
    if array.shape == leaf.shape:
        return array
    moved: jax.Array = jax.jit(lambda one: one.reshape(leaf.shape), out_shardings=leaf.sharding)(
        array
    )
    return moved
