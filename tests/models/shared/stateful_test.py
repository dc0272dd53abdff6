"""A state carried across jit as NNX's own objects trains as the plain one."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models.shared.stateful import Carrier

ADAM = optax.adam(0.1)
MODES: list[Literal["state", "jit"]] = ["state", "jit"]


class Model(nnx.Module):
    def __init__(self) -> None:
        self.inner = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        self.scale = nnx.Param(jnp.ones(2))


def plain_state() -> dict[str, Any]:
    params = {
        "inner": {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2)},
        "scale": jnp.full(2, 3.0),
    }
    return {"step": jnp.int32(4), "params": params, **init_optimizer(params)}


def init_optimizer(params: Any) -> dict[str, Any]:
    return {"opt_state": ADAM.init(params), "loss_scale": {"scale": jnp.float32(8)}}


def step(state: Any, batch: jax.Array) -> tuple[Any, Any]:
    def loss(params: Any) -> jax.Array:
        inner = params["inner"]
        return jnp.sum((batch @ inner["kernel"] + inner["bias"][None]) * params["scale"][None])

    value, gradients = jax.value_and_grad(loss)(state["params"])
    updates, opt_state = ADAM.update(gradients, state["opt_state"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    loss_scale = {"scale": state["loss_scale"]["scale"] / 2}
    after = {"params": params, "opt_state": opt_state, "loss_scale": loss_scale}
    return {"step": state["step"] + 1, **after}, {"loss": value}


def carrier(mode: Literal["state", "jit"]) -> Carrier:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), plain_state()
    )
    return Carrier(mode, Model, init_optimizer, shapes)


@pytest.mark.parametrize("mode", MODES)
def test_what_enters_leaves_again(mode: Literal["state", "jit"]) -> None:
    state, carried = plain_state(), carrier(mode)
    entered = carried.enter(state)
    assert isinstance(entered, nnx.State) == (mode == "state")
    left = carried.leave(entered)
    assert len({jax.tree.structure(tree) for tree in (left, state)}) == 1
    jax.tree.map(np.testing.assert_array_equal, left, state)


@pytest.mark.parametrize("mode", MODES)
def test_steps_are_those_of_the_plain_state(mode: Literal["state", "jit"]) -> None:
    mesh = jax.make_mesh((4,), ("fsdp",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    everywhere = jax.NamedSharding(mesh, jax.P())
    divided = jax.NamedSharding(mesh, jax.P("fsdp"))
    state = jax.device_put(plain_state(), everywhere)
    batch = jax.device_put(jnp.ones((4, 3)), divided)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )
    one = Carrier(mode, Model, init_optimizer, shapes)
    with jax.set_mesh(mesh):
        traced = one.trace(step, batch, everywhere)
        call = one.call(traced.lower().compile())
    carried = one.enter(state)
    expected, plain_step = jax.device_put(plain_state(), everywhere), jax.jit(step)
    for _ in range(2):
        before = jax.tree.leaves(nnx.state(carried))
        carried, metrics = call(carried, batch)
        assert all(leaf.is_deleted() for leaf in before), "the state is donated"
        expected, told = plain_step(expected, batch)
        assert metrics["loss"] == told["loss"]
        assert metrics["loss"].sharding.is_equivalent_to(everywhere, 0)
    left = one.leave(carried)
    jax.tree.map(np.testing.assert_array_equal, left, expected)
    assert all(
        leaf.sharding.is_equivalent_to(everywhere, leaf.ndim) for leaf in jax.tree.leaves(left)
    )


def test_the_carried_optimizer_is_never_asked_to_update() -> None:
    entered = carrier("jit").enter(plain_state())
    model, optimizer = entered
    with pytest.raises(TypeError, match="the mathematics is the train step's"):
        optimizer.update(model, nnx.state(model, nnx.Param))
