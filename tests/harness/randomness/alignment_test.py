"""Two functions that draw with other keys draw alike, but for what they do with a key."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.randomness import alignment
from harness.randomness.alignment import Numbers
from harness.randomness.freshness import Drawn

X = jnp.linspace(1.0, 2.0, 64)


def masked(key: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0)


def looped(x: jax.Array, key: jax.Array) -> jax.Array:
    """Two layers in a loop, of two draws each."""

    def layer(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        x = masked(jax.random.fold_in(key, 0), x + 1)
        return masked(jax.random.fold_in(key, 1), x + 2), None

    return jax.lax.scan(layer, x, jax.random.split(key, 2))[0]


def listed(x: jax.Array, key: jax.Array) -> jax.Array:
    """The same layers one after the other, with keys of another kind."""
    for number in range(2):
        x = masked(jax.random.fold_in(key, 10 + number), x + 1)
        x = masked(jax.random.fold_in(key, 20 + number), x + 2)
    return x


def reusing(x: jax.Array, key: jax.Array) -> jax.Array:
    for number in range(2):
        x = masked(jax.random.fold_in(key, 10 + number), x + 1)
        x = masked(jax.random.fold_in(key, 10 + number), x + 2)
    return x


def stale(x: jax.Array, key: jax.Array) -> jax.Array:
    return listed(x, jax.random.key(5))


def drawn(function: Any) -> Drawn:
    def step(x: jax.Array, key: jax.Array) -> Any:
        return function(x, key).sum(), x

    return Drawn(lambda: X, step, lambda n: jax.random.fold_in(jax.random.key(0), n))


def both(a: Any, b: Any) -> tuple[Any, Any, tuple[Numbers, Numbers]]:
    """Both functions, aligned."""
    numbers = alignment.numbered(drawn(a), drawn(b))
    one, other = (jax.jit(alignment.aligned(f, n)) for f, n in zip((a, b), numbers, strict=True))
    return one, other, numbers


def test_the_layers_of_a_loop_draw_as_those_of_a_list() -> None:
    one, other, numbers = both(looped, listed)
    assert [len(n.lines) for n in numbers] == [4, 4]
    # In a loop draw by draw, in a list layer by layer.
    np.testing.assert_array_equal(numbers[0].numbers, [0, 2, 1, 3])
    np.testing.assert_array_equal(numbers[1].numbers, [0, 1, 2, 3])
    for seed in (3, 4):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(one(X, key), other(X, key))
    assert (one(X, jax.random.key(3)) != one(X, jax.random.key(4))).any()
    assert (looped(X, key) != listed(X, key)).any()


def test_a_key_that_is_used_twice_is_used_twice() -> None:
    one, other, numbers = both(listed, reusing)
    assert [len(n.lines) for n in numbers] == [2, 0]  # the first of each layer both have
    assert (one(X, jax.random.key(3)) != other(X, jax.random.key(3))).any()


def test_a_key_that_stays_the_same_does() -> None:
    one, other, numbers = both(listed, stale)
    assert not numbers[0].stays.any()
    assert numbers[1].stays.all()
    np.testing.assert_array_equal(other(X, jax.random.key(3)), other(X, jax.random.key(4)))
    assert (one(X, jax.random.key(3)) != other(X, jax.random.key(3))).any()


def test_equal_keys_are_left_as_they_are() -> None:
    numbers = alignment.numbered(drawn(looped), drawn(looped))
    assert not any(n.any for n in numbers)
