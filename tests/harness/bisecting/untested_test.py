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
FALSE = "gt false everywhere"


def told(a: Step, b: Step) -> list[str]:
    def captured(step: Step) -> Any:
        def both(params: Any, batch: Any) -> Any:
            loss, gradients = jax.value_and_grad(lambda w: step(w, batch).sum())(params["w"])
            return {"loss": loss, "gradients": {"w": gradients}}

        return capture(both, W, TOKENS)

    found = [*untested.places(("a", "b"), (captured(a), captured(b)))]
    assert all("untested_test.py:" in place for place, _ in found)
    return [*dict.fromkeys(f"{place[:1]}: {what}" for place, what in found)]


def filled(fill: float) -> Step:
    return lambda w, batch: jax.nn.softmax(jnp.where(batch["seen"], w * batch["x"], fill))


def added(fill: float) -> Step:
    return lambda w, batch: jax.nn.softmax(
        w * batch["x"] + fill * (1.0 - batch["seen"].astype("float32"))
    )


def branched(w: jax.Array, batch: Any) -> jax.Array:
    return jax.lax.cond(batch["x"].sum() > 9, lambda w: 2 * w, lambda w: w, w) * batch["x"]


def kept(limit: float) -> Step:
    """As experts of limited capacity are: what is beyond is dropped."""
    return lambda w, batch: w * batch["x"] * (jnp.cumsum(w) < limit).astype("float32")


def gated(weight: float) -> Step:
    """A term that comes in later."""
    return lambda w, batch: (
        w * batch["x"] + weight * (batch["x"].sum() > 1e3).astype("float32") * w**2
    )


def near(window: int) -> Step:
    """As attention to the last ones is, of fewer than these."""
    apart = jnp.arange(3)[:, None] - jnp.arange(3)[None, :]
    return lambda w, batch: jnp.where((apart >= 0) & (apart < window), w * batch["x"], 0).sum(-1)


def stepped(w: jax.Array, batch: Any) -> jax.Array:
    return w * batch["x"] + jnp.floor(w / 10)


def derived(w: jax.Array, batch: Any) -> jax.Array:
    """Of extremes, absolute values and indices, which compare without being asked to."""
    return jnp.abs(w) * jnp.clip(w, 0.5, 9).max() + jax.nn.logsumexp(w) + w[batch["at"]]


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
        (
            branched,
            branched,
            [f"{side}: {what}" for side in "ab" for what in ("a branch not taken", FALSE)],
        ),
        (kept(9), kept(9), ["a: lt true everywhere", "b: lt true everywhere"]),
        (kept(9), kept(2), ["a: lt true everywhere"]),
        (gated(0.1), gated(0.5), [f"a: {FALSE}", f"b: {FALSE}"]),
        (stepped, stepped, ["a: floor 0.0 everywhere", "b: floor 0.0 everywhere"]),
        (derived, derived, []),
        (near(512), near(512), []),
        (near(512), near(1024), ["a: lt true everywhere", "b: lt true everywhere"]),
        (twice(1e-30), twice(0.0), ["a: adds too little to count"]),
        (twice(1e-30), twice(1e-30), []),
        (
            product(None),
            product("highest"),
            ["a: dot_general with precision default", "b: dot_general with precision highest"],
        ),
        (product("highest"), product("highest"), []),
        (
            picked("fill"),
            picked("clip"),
            [
                "a: gather with mode fill_or_drop",
                "a: scatter-add with mode fill_or_drop",
                "b: gather with mode clip",
                "b: scatter-add with mode clip",
            ],
        ),
    ],
)
def test_what_one_side_alone_has_is_told_where_numbers_are_equal(
    a: Step, b: Step, lines: list[str]
) -> None:
    assert told(a, b) == lines
