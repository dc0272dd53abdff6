"""Where tensors lie on the mesh: logical axis names, and the one gather both twins use.

The models name axes ("embed", "mlp"); which mesh axis a name lies on is decided outside, by the
rules in force while a step is traced. Without a mesh in force everything here is the identity.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
from jax.sharding import PartitionSpec

Axes = tuple[str, ...]

_RULES: ContextVar[Mapping[str, str | None]] = ContextVar("axis_rules")


@contextmanager
def axis_rules(rules: Mapping[str, str | None]) -> Iterator[None]:
    """Puts `rules` (logical axis -> mesh axis, None for replicated) in force for a trace."""
    token = _RULES.set(rules)
    try:
        yield
    finally:
        _RULES.reset(token)


def partition_spec(axes: Axes, rules: Mapping[str, str | None]) -> PartitionSpec:
    """The mesh axes of a tensor with these logical axes; KeyError for a name without a rule."""
    return PartitionSpec(*(rules[axis] for axis in axes))


def is_sharded(axis: str) -> bool:
    """Whether a logical axis lies on the mesh in force."""
    return not jax.sharding.get_abstract_mesh().empty and _RULES.get()[axis] is not None


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """Holds `x` to the sharding of its logical axes."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(axes, _RULES.get()))


def replicate(x: jax.Array) -> jax.Array:
    """The whole of `x` on every device."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec())


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def gather(weight: jax.Array, axes: Axes) -> jax.Array:
    """The whole weight on every device; its gradient is scattered back to where the weight lies.

    The transpose of a plain sharding constraint would hold the gradient replicated: an all-reduce
    of the whole where a reduce-scatter of the shards is enough.
    """
    del axes
    return replicate(weight)


def _gather_forward(weight: jax.Array, axes: Axes) -> tuple[jax.Array, None]:
    return gather(weight, axes), None


def _gather_backward(axes: Axes, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (constrain(gradient, axes),)


gather.defvjp(_gather_forward, _gather_backward)


def map_over_batch(function: Callable[..., jax.Array], *tensors: jax.Array) -> jax.Array:
    """`function` of each device's own part of the batch, for what the compiler cannot divide."""
    if jax.sharding.get_abstract_mesh().empty:
        return function(*tensors)
    batch = PartitionSpec(_RULES.get()["batch"])
    mapped = jax.shard_map(
        function, in_specs=(batch,) * len(tensors), out_specs=batch, check_vma=False
    )
    return mapped(*tensors)
