"""Two functions that draw with other keys draw alike, but for what they do with a key."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from noisy_gradients import noisy_gradient

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


def step_key(number: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), number)


def drawn(function: Any) -> Drawn:
    def step(x: jax.Array, key: jax.Array) -> Any:
        return function(x, key).sum(), x

    return Drawn(lambda: X, step, step_key)


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


def test_a_key_that_stays_the_same_does_and_draws_as_the_other_side_in_the_first_step() -> None:
    one, other, numbers = both(listed, stale)
    assert not numbers[0].stays.any()
    assert numbers[1].stays.all()
    np.testing.assert_array_equal(other(X, step_key(0)), other(X, step_key(1)))
    np.testing.assert_array_equal(one(X, step_key(0)), other(X, step_key(0)))
    assert (one(X, step_key(1)) != other(X, step_key(1))).any()


def test_noise_of_a_backward_pass_is_drawn_alike() -> None:
    def folded(number: int) -> Any:
        return lambda x, key: noisy_gradient(x, jax.random.fold_in(key, number), key)

    one, other, _ = both(folded(1), folded(2))
    gradients = [jax.grad(lambda x, f=f: f(x, step_key(0)).sum())(X)
                 for f in (one, other, folded(1), folded(2))]  # fmt: skip
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert (gradients[2] != gradients[3]).any()


def test_equal_keys_are_left_as_they_are() -> None:
    numbers = alignment.numbered(drawn(looped), drawn(looped))
    assert not any(n.any for n in numbers)
