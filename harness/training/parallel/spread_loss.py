"""The loss of a microbatch and its gradients, by devices that each hold some of the table's rows.

Called by hand in a shard_map, where no sum over devices can be differentiated: so the gradients are
written down.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.cut import Params
from models.shared import grouped


class Found(NamedTuple):
    """The mean cross entropy in float32, and the gradients of a multiple of it by parameters."""

    loss: jax.Array
    norm: Params
    table: jax.Array  # of the device's own rows


@jax.named_scope("loss")
def cross_entropy(
    norm: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    table: jax.Array,
    x: jax.Array,
    targets: jax.Array,
    weight: jax.Array,
    axis: str,
) -> tuple[Found, jax.Array]:
    """What is found of x [B, T, D] at targets [B, T], which every device has, and x's gradient.

    norm: what stands before the logits, of its params and x. table: the device's rows [V/n, D], in
    the devices' order. weight: what the gradients are multiplied by, float32.
    """
    normed, pull = jax.vjp(norm, params, x)
    logits = grouped.logits(normed, table).astype(jnp.float32)  # [B, T, V/n]
    first = jax.lax.axis_index(axis) * table.shape[0]
    rows = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 2)
    is_target = rows == (targets - first)[..., None]
    largest = jax.lax.pmax(jnp.max(logits, axis=-1), axis)  # [B, T]
    exponentials = jnp.exp(logits - largest[..., None])
    total = jax.lax.psum(jnp.sum(exponentials, axis=-1), axis)
    target_logits = jax.lax.psum(jnp.sum(jnp.where(is_target, logits, 0), axis=-1), axis)
    loss = jnp.mean(jnp.log(total) + largest - target_logits)
    off = exponentials / total[..., None] - is_target.astype(jnp.float32)
    d_logits = (off * (weight / targets.size)).astype(normed.dtype)
    d_table = jnp.einsum("btv,btd->vd", d_logits, normed)
    d_normed = jax.lax.psum(jnp.einsum("btv,vd->btd", d_logits, table), axis)
    d_params, d_x = pull(d_normed)
    return Found(loss, d_params, d_table), d_x
