"""What changes nothing in a step is named: that two sides agree says nothing of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness.bisecting import idling
from harness.bisecting.capture import capture

W = {"w": jnp.arange(1.0, 4)}
TOKENS = {"x": jnp.arange(3.0), "mask": jnp.ones(3), "part": jnp.asarray([1.0, 0, 1])}
PART = jnp.asarray([True, False, True])
Step = Callable[[Any, Any], jax.Array]


def told(a: Step, b: Step) -> list[str]:
    traces = [
        capture(
            lambda params, batch, step=step: {"loss": step(params["w"], batch).sum()}, W, TOKENS
        )
        for step in (a, b)
    ]
    found = [*idling.places(("a", "b"), (traces[0], traces[1]))]
    assert all("idling_test.py:" in place for place, _ in found)
    return [*dict.fromkeys(f"{place[:1]}: {what}" for place, what in found)]


def product(w: jax.Array, batch: Any) -> jax.Array:
    return w * batch["x"]


@pytest.mark.parametrize(
    ("other", "lines"),
    [
        (product, []),
        (lambda w, batch: jnp.clip(product(w, batch), -50, 50), ["b: max", "b: min"]),
        (lambda w, batch: product(w, batch) * jnp.minimum(1.0, 50 / w), ["b: min"]),
        (lambda w, batch: jnp.minimum(product(w, batch), 1), []),
        (lambda w, batch: product(w, batch) * batch["mask"], ["b: mul"]),
        (lambda w, batch: product(w, batch) * batch["part"], []),
        (lambda w, batch: jnp.where((y := product(w, batch)) < 50, y, w), ["b: select_n"]),
        (lambda w, batch: jnp.maximum(product(w, batch), -jnp.inf), []),
        (lambda w, batch: product(w, batch) * 1.0 + 0.0, []),
        (lambda w, batch: 1e-12 + (w + 1e3) * (batch["x"] + 1), ["b: add"]),
        (lambda w, batch: jnp.where((batch["mask"] > 0) & PART, w, 0), ["b: and"]),
        (lambda w, batch: jnp.where(jnp.arange(3) < 9, product(w, batch), w), ["b: select_n"]),
    ],
)  # fmt: skip
def test_bounds_that_nothing_reaches_and_masks_of_ones(other: Step, lines: list[str]) -> None:
    assert told(product, other) == lines


def test_a_bound_that_both_have_is_told_of_neither_but_a_mask_of_both() -> None:
    def bounded(limit: float) -> Step:
        return lambda w, batch: jnp.minimum(product(w, batch), limit)

    assert told(bounded(50), bounded(50)) == []
    assert told(bounded(50), bounded(60)) == ["a: min", "b: min"]

    def masked(w: jax.Array, batch: Any) -> jax.Array:
        return product(w, batch) * batch["mask"]

    assert told(masked, masked) == ["a: mul", "b: mul"]
