"""Where tensors lie on the mesh: logical axis names, and how tensors move on it.

The models name axes ("embed", "mlp"); which mesh axis a name lies on is decided outside, by the
rules in force while a step is traced. Without a mesh in force everything here is the identity.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

Axes = tuple[str, ...]
Rules = Mapping[str, str | tuple[str, ...] | None]  # logical axis -> mesh axes; None: replicated

_RULES: ContextVar[Rules] = ContextVar("axis_rules")
_MESH: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


@contextmanager
def in_force(mesh: Mesh, rules: Rules) -> Iterator[None]:
    """Puts a mesh and rules in force for a trace."""
    token = _MESH.set(mesh)
    try:
        with jax.set_mesh(mesh), axis_rules(rules):
            yield
    finally:
        _MESH.reset(token)


def mesh_in_force() -> Mesh | None:
    """The mesh in force with its devices, of which JAX tells nothing within a trace."""
    return _MESH.get()


@contextmanager
def axis_rules(rules: Rules) -> Iterator[None]:
    """Puts `rules` in force for a trace."""
    token = _RULES.set(rules)
    try:
        yield
    finally:
        _RULES.reset(token)


def partition_spec(axes: tuple[str | None, ...], rules: Rules) -> PartitionSpec:
    """The mesh axes of a tensor with these logical axes; one that is None is not divided.

    Raises KeyError for a name without a rule, ValueError where two would lie on one mesh axis.
    """
    spec = PartitionSpec(*(None if axis is None else rules[axis] for axis in axes))
    taken = [one for over in spec for one in mesh_axes(over)]
    twice = sorted({one for one in taken if taken.count(one) > 1})
    if twice:
        raise ValueError(f"its axes {', '.join(map(str, axes))} lie on {', '.join(twice)} twice")
    return spec


def mesh_axes(rule: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes of one rule."""
    return (rule,) if isinstance(rule, str) else rule or ()


def among(
    rule: str | tuple[str, ...] | None, axes: Collection[str]
) -> str | tuple[str, ...] | None:
    """The mesh axes of a rule that are among these; one alone stands for itself."""
    kept = tuple(axis for axis in mesh_axes(rule) if axis in axes)
    return kept if len(kept) > 1 else kept[0] if kept else None


def lies_on(axis: str) -> tuple[str, ...]:
    """The axes of the mesh in force on which a logical axis lies."""
    return mesh_axes(_RULES.get()[axis])


@contextmanager
def by_hand(axes: Collection[str]) -> Iterator[None]:
    """Rules for a part of a trace that divides these mesh axes itself: nothing lies on them."""
    left = set(jax.sharding.get_abstract_mesh().shape) - set(axes)
    with axis_rules({name: among(rule, left) for name, rule in _RULES.get().items()}):
        yield


def is_sharded(axis: str) -> bool:
    """Whether a logical axis lies on the mesh in force."""
    return not jax.sharding.get_abstract_mesh().empty and _RULES.get()[axis] is not None


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """Holds `x` to the sharding of its logical axes."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes, _RULES.get()))


def constrain_evenly(x: jax.Array, axes: Axes) -> jax.Array:
    """`constrain`, with an axis that its devices cannot divide evenly left whole."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    spec = [
        over if size % math.prod(mesh.shape[one] for one in mesh_axes(over)) == 0 else None
        for size, over in zip(x.shape, partition_spec(axes, _RULES.get()), strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def gather(x: jax.Array, axes: Axes) -> jax.Array:
    """`x` with all that the devices that divide the batch hold of it; other axes stay divided.

    An axis that is 1 long, as of a scale that is shared along it, is on every device.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    rules = _RULES.get()
    batch = set(mesh_axes(rules.get("batch")))
    kept = [
        rules[axis] if size > 1 and batch.isdisjoint(mesh_axes(rules[axis])) else None
        for axis, size in zip(axes, x.shape, strict=True)
    ]
    spec = PartitionSpec(*kept) if any(kept) else PartitionSpec()
    return jax.lax.with_sharding_constraint(x, spec)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def whole(x: jax.Array, axes: Axes) -> jax.Array:
    """`gather` of a weight, whose gradient is left where its logical axes say."""
    return gather(x, axes)


def _whole_forward(x: jax.Array, axes: Axes) -> tuple[jax.Array, None]:
    return gather(x, axes), None


def _whole_backward(axes: Axes, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (constrain(gradient, axes),)


whole.defvjp(_whole_forward, _whole_backward)


def scatter_sum(part: Callable[..., jax.Array], tensors: Any, axes: Axes) -> jax.Array:
    """`part` of `tensors`, a sum over their batch, left where the logical axes of the result say.

    A layer's matrix is scattered by hand, its pieces along an axis of their own: left to itself,
    XLA for TPU pads it (by an eighth on 32 devices) and mends that with permutes. The head's it
    does not pad, and by hand that would lie in memory twice. On a mesh of several axes XLA does it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if len(axes) != 2 or not is_sharded(axes[0]) or "vocab" in axes or len(mesh.shape) > 1:
        return constrain(part(*tensors), axes)
    rules = _RULES.get()
    mesh_axis = rules[axes[0]]
    devices = mesh.shape[mesh_axis]

    def own_piece(*tensors: Any) -> jax.Array:
        whole = part(*tensors)
        pieces = whole.reshape(devices, -1, *whole.shape[1:])
        return jax.lax.psum_scatter(pieces, mesh_axis, scatter_dimension=0, tiled=True)[0]

    mapped = jax.shard_map(
        own_piece,
        in_specs=PartitionSpec(mesh_axis),
        out_specs=partition_spec(axes, rules),
        check_vma=False,
    )
    return mapped(*tensors)


def look_up(table: jax.Array, tokens: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The rows [B, T, D], in `dtype`, of `table` [V, D] at `tokens` [B, T].

    Where mesh axes divide the batch but not the table's columns, each of their groups of devices
    adds up its own rows for the gradient: left to itself, XLA adds up the whole table everywhere.
    Where the mesh divides more than the batch, the compiler divides the whole.
    """

    def rows(table: jax.Array, tokens: jax.Array) -> jax.Array:
        return jnp.take(table.astype(dtype), tokens, axis=0)

    mesh = jax.sharding.get_abstract_mesh()
    batch, columns = ((), ()) if mesh.empty else (lies_on("batch"), lies_on("embed_vocab"))
    groups = tuple(axis for axis in batch if axis not in columns)
    is_even = len(tokens) % math.prod(mesh.shape[axis] for axis in groups) == 0
    if not groups or not columns or not is_even or {*mesh.axis_names} - {*batch}:
        return rows(table, tokens)
    mapped = jax.shard_map(
        rows,
        in_specs=(PartitionSpec(), PartitionSpec(groups)),
        out_specs=PartitionSpec(groups),
        axis_names=set(groups),
        check_vma=False,
    )
    return mapped(table, tokens)


def map_over_batch(
    function: Callable[..., jax.Array], *tensors: jax.Array, axes: Axes = ("batch",)
) -> jax.Array:
    """`function` of each device's own part of the batch, for what the compiler cannot divide.

    axes: the first logical axes of the tensors and of the result, all of which are divided.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(*tensors)
    spec = partition_spec(axes, _RULES.get())
    mapped = jax.shard_map(
        function,
        in_specs=(spec,) * len(tensors),
        out_specs=spec,
        axis_names=set(mesh.axis_names) - set(mesh.manual_axes),
        check_vma=False,
    )
    return mapped(*tensors)


def map_over_sequences(function: Callable[..., jax.Array], *tensors: jax.Array) -> jax.Array:
    """`function` of the batch, on each device one sequence after the other.

    What it makes in between lies in memory for one sequence alone, forward and backward. Where the
    mesh divides more than the batch, the compiler divides the whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    batch = () if mesh.empty else lies_on("batch")
    if len(tensors[0]) == 1 or {*mesh.axis_names} - {*batch}:
        return function(*tensors)

    @partial(jax.checkpoint, prevent_cse=False)
    def one(tensors: tuple[jax.Array, ...]) -> jax.Array:
        return function(*(x[None] for x in tensors))[0]

    def own(*tensors: jax.Array) -> jax.Array:
        return function(*tensors) if len(tensors[0]) == 1 else jax.lax.map(one, tensors)

    return map_over_batch(own, *tensors)
