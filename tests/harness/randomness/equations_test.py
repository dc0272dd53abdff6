"""The lines of equations, also of what a library compiled before for another line."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from harness.randomness import equations

HERE = "tests/harness/randomness/equations_test.py"


@jax.jit
def mine(x: jax.Array) -> jax.Array:
    return jnp.sin(x)


def first(x: jax.Array) -> jax.Array:
    return jax.nn.silu(x)


def second(x: jax.Array) -> jax.Array:
    return mine(jax.nn.silu(x))


def test_a_librarys_lines_are_its_callers_and_mine_are_my_own() -> None:
    x = jnp.ones(3)
    jax.make_jaxpr(first)(x)  # from here on silu is traced
    silu, own = jax.make_jaxpr(second)(x).jaxpr.eqns
    assert equations.called_from(silu, "") == f"{HERE}:25"
    assert equations.called_from(own, "") == ""
    assert equations.called_from(own, "outer.py:1") == "outer.py:1"
    called = equations.called(own)
    assert isinstance(called, core.ClosedJaxpr)
    (sine,) = called.jaxpr.eqns
    assert equations.source(sine) == f"{HERE}:17"
    assert equations.called(sine) is None
    assert (equations.bound(sine, [x])[0] == jnp.sin(x)).all()


@pytest.mark.parametrize(
    ("package", "line"),
    [("models_of_mine", "models_of_mine/layers.py:2"), ("flax", f"{HERE}:53")],
)
def test_lines_of_an_installed_model_are_told_and_those_of_a_framework_are_not(
    package: str, line: str
) -> None:
    names: dict[str, Any] = {}
    file = f"/some/lib/python3/site-packages/{package}/layers.py"
    exec(compile("def layer(function, x):\n    return function(x)\n", file, "exec"), names)
    jaxpr = jax.make_jaxpr(lambda x: names["layer"](jnp.sin, x))(jnp.ones(3)).jaxpr
    assert equations.source(jaxpr.eqns[0]) == line


def test_settings_that_need_not_show_in_numbers() -> None:
    def settings(function: Any) -> set[str]:
        jaxpr = jax.make_jaxpr(function)(jnp.ones((2, 2))).jaxpr
        return {equations.settings(one) for one in jaxpr.eqns}

    assert "precision default" in settings(lambda x: x @ x)
    assert "precision highest" in settings(lambda x: jnp.dot(x, x, precision="highest"))
    assert "mode clip" in settings(lambda x: x.at[jnp.asarray([0, 1])].get(mode="clip"))
    assert settings(jnp.tanh) == {""}


def test_how_a_scan_takes_its_inputs() -> None:
    def scanned(x: jax.Array, xs: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, y: (c * x + y, None), x, xs)[0]

    (scan,) = jax.make_jaxpr(scanned)(jnp.ones(()), jnp.ones(4)).jaxpr.eqns
    assert equations.counts(scan.params) == (1, 1)


@pytest.mark.parametrize(
    ("function", "shapes", "terms"),
    [
        (jnp.matmul, [(2, 3, 5), (2, 5, 7)], 5),
        (lambda x: x.sum((0, 2)), [(2, 3, 5)], 10),
        (lambda x: jnp.max(x), [(4,)], 1),
        (lambda x: jax.lax.cumsum(x, 1), [(2, 6)], 6),
        (lambda x, y: jax.lax.conv(x, y, (1, 1), "SAME"), [(1, 3, 8, 8), (4, 3, 2, 2)], 12),
        (lambda x, y: x.at[jnp.asarray([0, 1, 0, 1])].add(y), [(2, 3), (4, 3)], 2),
    ],
)
def test_of_how_many_numbers_each_is_the_sum(function: Any, shapes: Any, terms: int) -> None:
    jaxpr = jax.make_jaxpr(function)(*map(jnp.ones, shapes)).jaxpr
    assert max(map(equations.terms, jaxpr.eqns)) == terms
