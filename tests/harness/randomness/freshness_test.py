"""Keys that repeat from step to step, keys that two draws share, and draws that nothing takes."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from noisy_gradients import noisy_gradient

from harness.randomness.freshness import Drawn

HERE = "tests/harness/randomness/freshness_test.py"


def begin() -> Any:
    return {"key": jax.random.key(1), "count": jnp.uint32(0), "w": jnp.ones(4)}


def mask(key: jax.Array, x: jax.Array, rate: float = 0.5) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x, 0)


def counted(count: int) -> Any:
    """Draws by a key and a counter of its own, which it moves on by so much."""

    def step(held: Any, key: jax.Array) -> tuple[Any, Any]:
        x = mask(jax.random.fold_in(held["key"], held["count"]), held["w"])
        return x.sum(), held | {"count": held["count"] + count, "w": x + 1}

    return step


def turning(held: Any, key: jax.Array) -> tuple[Any, Any]:
    """Comes back to its first key in the fourth step."""
    x = mask(jax.random.fold_in(held["key"], held["count"] % 3), held["w"])
    return x.sum(), held | {"count": held["count"] + 1}


def scanned(held: Any, key: jax.Array) -> tuple[Any, Any]:
    """Of three draws in a loop, the first is the same in every step."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))
    keys = jax.random.wrap_key_data(jax.random.key_data(keys).at[0].set(7), impl="threefry2x32")
    x, _ = jax.lax.scan(lambda x, one: (mask(one, x + 1), None), held["w"], keys)
    return x.sum(), held


def together(held: Any, key: jax.Array) -> tuple[Any, Any]:
    """One key for two draws, and a draw that keeps all."""
    x = mask(key, held["w"])
    x = mask(key, x + 1)
    kept = mask(jax.random.fold_in(key, 1), x, 0.0)
    return kept.sum(), held


def noisy(held: Any, key: jax.Array) -> tuple[Any, Any]:
    """Draws in the backward pass alone, with a key that stays; another one is not taken."""
    stays = jax.random.fold_in(held["key"], held["count"])
    x, _ = jax.lax.scan(lambda x, _: (noisy_gradient(x, stays, key), None), held["w"], None, 2)
    return mask(key, x).sum(), held


def found(step: Any) -> Drawn:
    return Drawn(begin, step, lambda n: jax.random.fold_in(jax.random.key(0), n))


@pytest.mark.parametrize(("step", "stale"), [
    (counted(1), {}),
    (counted(0), {f"{HERE}:20": (1, 1, 1)}),
    (turning, {f"{HERE}:20": (1, 1, 3)}),
    (scanned, {f"{HERE}:20": (1, 3, 1)}),
    (noisy, {f"{HERE}:58": (1, 1, 1)}),
])  # fmt: skip
def test_a_key_that_repeats_is_named(step: Any, stale: dict[str, tuple[int, int, int]]) -> None:
    drawn = found(step)
    assert drawn.stale() == stale
    assert drawn.shared() == []


def test_keys_that_are_shared_and_draws_that_change_nothing() -> None:
    drawn = found(together)
    assert drawn.stale() == {}
    assert drawn.shared() == [(f"{HERE}:20", f"{HERE}:20")]
    # All three are drawn in one line, and one of them keeps whatever it is given.
    assert drawn.idle() == [f"{HERE}:20"]
    assert found(counted(1)).idle() == found(noisy).idle() == []
    assert found(lambda held, key: (held["w"].sum(), held)).idle() == []


def test_a_counter_that_stays_is_known() -> None:
    line = f"{HERE}:20"
    assert (found(counted(0)).standing(line), found(counted(1)).standing(line)) == (["count"], [])
