from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from harness.training.losses import cross_entropy
from harness.training.parallel import spread_loss
from models.shared import grouped

WEIGHT = 8.0


def norm(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x) * params["scale"][None, None]


def test_loss_and_gradients_over_four_devices_are_those_of_one() -> None:
    rng = np.random.default_rng(2)
    x, table, scale = (
        jnp.asarray(rng.normal(0, 2, shape), jnp.float32) for shape in ((2, 3, 8), (20, 8), (8,))
    )
    params, targets = {"scale": scale}, jnp.asarray([[0, 4, 19], [5, 10, 3]])
    whole, divided = PartitionSpec(), PartitionSpec("stage")
    run = jax.shard_map(
        partial(spread_loss.cross_entropy, norm, weight=jnp.float32(WEIGHT), axis="stage"),
        mesh=jax.make_mesh((4,), ("stage",), (AxisType.Auto,), devices=jax.devices()[:4]),
        in_specs=(whole, divided, whole, whole),
        out_specs=(spread_loss.Found(whole, whole, divided), whole),  # type: ignore[arg-type]
        check_vma=False,
    )
    found, d_x = jax.jit(run)(params, table, x, targets)

    def plain(params: Any, table: jax.Array, x: jax.Array) -> jax.Array:
        logits = grouped.logits(norm(params, x), table)
        return cross_entropy(logits, {"targets": targets})[0]

    loss, gradients = jax.value_and_grad(plain, argnums=(0, 1, 2))(params, table, x)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-6)
    for ours, theirs in zip(
        jax.tree.leaves((found.norm, found.table, d_x)), jax.tree.leaves(gradients), strict=True
    ):
        np.testing.assert_allclose(ours, WEIGHT * theirs, atol=1e-6 * WEIGHT)
