"""An operation of an NNX module is in the scope of its path, and of its caller's line."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend import core

from harness.randomness import equations
from models.pairing import scopes


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sin(self.inner(x))


class Stack(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([Layer(rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


def places(model: Any) -> dict[str, list[tuple[str, str]]]:
    """Of each operation, in which scopes it is, and in which line."""
    found: dict[str, list[tuple[str, str]]] = {}

    def walk(jaxpr: core.Jaxpr) -> None:
        for one in jaxpr.eqns:
            place = (str(one.source_info.name_stack), equations.source(one).rpartition(":")[2])
            found.setdefault(one.primitive.name, []).append(place)
            called = equations.called(one)
            if called is not None:
                walk(called.jaxpr)

    walk(jax.make_jaxpr(model)(jnp.ones((1, 2))).jaxpr)
    return found


def test_each_operation_is_in_the_scope_of_its_module() -> None:
    model = Stack(nnx.Rngs(0))
    calls = Stack.__call__, Layer.__call__, nnx.Linear.__call__
    with scopes.named(model):
        found = places(model)
    assert found["sin"] == [(f"layers/{n}", "20") for n in range(2)]
    assert found["dot_general"] == [(f"layers/{n}/inner", "20") for n in range(2)]
    assert (Stack.__call__, Layer.__call__, nnx.Linear.__call__) == calls
    assert {scope for scope, _ in places(Stack(nnx.Rngs(0)))["sin"]} == {""}


def test_a_module_that_fails_leaves_its_class_as_it_was() -> None:
    model, call = Layer(nnx.Rngs(0)), Layer.__call__
    with pytest.raises(TypeError), scopes.named(model):
        model(jnp.ones((1, 3)))
    assert Layer.__call__ is call
