"""A program's draws, in loops and out of them, and the same program with other keys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.randomness import draws

KEY = jax.random.key(3)


def layers(key: jax.Array, x: jax.Array) -> jax.Array:
    """Three layers in a loop that draw in what is computed again, then one draw outside."""

    @jax.checkpoint
    def layer(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), jnp.tanh(x), 0), None

    x, _ = jax.lax.scan(layer, x, jax.random.split(key, 3))
    jax.random.normal(key, (7,))  # nothing depends on it
    return x.sum() * jax.random.uniform(jax.random.fold_in(key, 9))


def followed(function: Any, *inputs: Any, exchange: draws.Exchange | None = None) -> Any:
    return draws.follow(draws.live(jax.make_jaxpr(function)(*inputs)), inputs, exchange)


def test_each_draw_in_order_with_its_keys_and_its_line() -> None:
    found = followed(layers, KEY, jnp.ones(4))
    loop, last = found.draws
    np.testing.assert_array_equal(loop.words, jax.random.key_data(jax.random.split(KEY, 3)))
    np.testing.assert_array_equal(last.words, jax.random.key_data(jax.random.fold_in(KEY, 9)))
    lines = [int(draw.line.removeprefix("tests/harness/randomness/draws_test.py:"))
             for draw in found.draws]  # fmt: skip
    assert lines == [20, 24]
    assert found.unseen == []
    np.testing.assert_array_equal(found.outputs[0], layers(KEY, jnp.ones(4)))


def test_other_keys_give_what_they_would_give_and_other_gradients() -> None:
    other = jax.random.key(4)
    table = jax.random.key_data(jax.random.split(KEY, 3))
    new = jax.random.split(other, 4)

    def exchange(keys: jax.Array) -> jax.Array:
        known = (draws.words(keys)[..., None, :] == table).all(-1).any(-1)
        return jnp.where(known, new[draws.place(keys, np.asarray(table))], keys)

    def exchanged(key: jax.Array, x: jax.Array) -> jax.Array:
        outputs: list[jax.Array] = followed(layers, key, x, exchange=exchange).outputs
        return outputs[0]

    def expected(key: jax.Array, x: jax.Array) -> jax.Array:
        for one in new[:3]:
            x = jnp.where(jax.random.bernoulli(one, 0.5, x.shape), jnp.tanh(x), 0)
        return x.sum() * jax.random.uniform(jax.random.fold_in(key, 9))

    x = jnp.linspace(0.1, 1, 16)
    for one, two in zip(*(jax.value_and_grad(f, 1)(KEY, x) for f in (exchanged, expected)),
                        strict=True):  # fmt: skip
        np.testing.assert_allclose(one, two, rtol=1e-6)


@jax.custom_jvp
def noisy(x: jax.Array) -> jax.Array:
    return x + jax.random.normal(KEY)


noisy.defjvp(lambda x, tangent: (noisy(*x), tangent[0]))


def test_what_cannot_be_followed_is_said() -> None:
    def branching(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x > 0, noisy, lambda x: x, x)

    def repeated(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1 + jnp.abs(noisy(x)), x)

    for function in (branching, repeated):
        found = followed(function, jnp.float32(1))
        assert found.draws == []
        assert len(found.unseen) == 1
        assert "draws_test.py" in found.unseen[0]
        np.testing.assert_array_equal(found.outputs[0], function(jnp.float32(1)))
    assert followed(noisy, jnp.float32(1)).unseen == []
    assert len(followed(noisy, jnp.float32(1), exchange=lambda keys: keys).unseen) == 1


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_keys_are_folded_one_by_one(shape: tuple[int, ...]) -> None:
    keys = jax.random.split(KEY, shape) if shape else KEY
    data = jnp.arange(keys.size, dtype=jnp.uint32).reshape(shape)
    found = draws.folded(keys, data)
    assert found.shape == shape
    last = jax.random.fold_in(keys.reshape(-1)[-1], keys.size - 1)
    np.testing.assert_array_equal(
        jax.random.key_data(found.reshape(-1)[-1]), jax.random.key_data(last)
    )


def test_of_keys_that_lie_on_two_meshes_some_are_chosen() -> None:
    """As of a model with a mesh of its own, whose step runs under another one."""
    auto = (jax.sharding.AxisType.Auto,)
    meshes = [jax.make_mesh((1,), (name,), axis_types=auto) for name in ("own", "fsdp")]

    def step() -> jax.Array:
        keys = []
        for seed, mesh in enumerate(meshes):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                keys.append(jax.random.split(jax.random.key(seed), 2))
        return draws.words(draws.chosen(jnp.asarray([True, False]), *keys))

    with jax.set_mesh(meshes[1]):
        found = jax.jit(step)()
    for n, row in enumerate(np.asarray(found)):
        expected = jax.random.split(jax.random.key(n), 2)[n]
        np.testing.assert_array_equal(row, jax.random.key_data(expected))
