"""What equal numbers hide is named: fills, branches, lost terms, and settings."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness.bisecting import untested
from harness.bisecting.capture import capture

W = {"w": jnp.arange(1.0, 4)}
TOKENS = {"x": jnp.arange(3.0), "seen": jnp.asarray([True, False, True]), "at": jnp.arange(3)}
Step = Callable[[Any, Any], jax.Array]


def told(a: Step, b: Step) -> list[str]:
    def captured(step: Step) -> Any:
        def both(params: Any, batch: Any) -> Any:
            loss, gradients = jax.value_and_grad(lambda w: step(w, batch).sum())(params["w"])
            return {"loss": loss, "gradients": {"w": gradients}}

        return capture(both, W, TOKENS)

    lines = untested.lines(("a", "b"), (captured(a), captured(b)))
    assert all("untested_test.py:" in line for line in lines)
    return [f"{line[:1]}: {line.partition(' (')[2].removesuffix(')')}" for line in lines]


def filled(fill: float) -> Step:
    return lambda w, batch: jax.nn.softmax(jnp.where(batch["seen"], w * batch["x"], fill))


def added(fill: float) -> Step:
    return lambda w, batch: jax.nn.softmax(
        w * batch["x"] + fill * (1.0 - batch["seen"].astype("float32"))
    )


def branched(w: jax.Array, batch: Any) -> jax.Array:
    return jax.lax.cond(batch["x"].sum() > 9, lambda w: 2 * w, lambda w: w, w) * batch["x"]


def twice(weight: float) -> Step:
    """A second term, so weak that no gradient shows it."""
    return lambda w, batch: (w * batch["x"]).sum() + weight * (w**2).sum()


def product(precision: Any) -> Step:
    return lambda w, batch: jnp.dot(w, batch["x"], precision=precision)


def picked(mode: str) -> Step:
    return lambda w, batch: w.at[batch["at"]].get(mode=mode) * batch["x"]


@pytest.mark.parametrize(
    ("a", "b", "lines"),
    [
        (filled(-1e9), filled(-1e9), []),
        (filled(-1e9), filled(-1e4), ["a: fills with -1e+09", "b: fills with -10000"]),
        (filled(-1e9), filled(-jnp.inf), ["a: fills with -1e+09", "b: fills with -inf"]),
        (filled(-1e38), filled(-2e38), []),
        (added(-1e9), added(-1e4), ["a: fills with -1e+09", "b: fills with -10000"]),
        (branched, branched, ["a: a branch not taken", "b: a branch not taken"]),
        (twice(1e-30), twice(0.0), ["a: adds too little to count"]),
        (twice(1e-30), twice(1e-30), []),
        (
            product(None),
            product("highest"),
            ["a: dot_general, precision default", "b: dot_general, precision highest"],
        ),
        (product("highest"), product("highest"), []),
        (
            picked("fill"),
            picked("clip"),
            [
                "a: gather, mode fill_or_drop, scatter-add, mode fill_or_drop",
                "b: gather, mode clip, scatter-add, mode clip",
            ],
        ),
    ],
)
def test_what_one_side_alone_has_is_told_where_numbers_are_equal(
    a: Step, b: Step, lines: list[str]
) -> None:
    assert told(a, b) == lines
