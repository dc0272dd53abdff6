"""What one step of equal values does not show: later steps, evaluations, how models begin."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.pairing.further import Further, further
from models.pairing.learning import learn
from models.pairing.nnx_side import NnxSide
from models.pairing.plain_side import PlainSide
from models.pairing.probing import Probe

BATCHES = [
    {"x": np.random.default_rng(n).standard_normal((5, 6)).astype("float32")} for n in range(2)
]


def loss(model: Any, batch: Any) -> jax.Array:
    return (model(batch["x"]) ** 2).mean()


def found(a: Any, b: Any, evaluators: Any = None) -> Further:
    probes = Probe(a, {}, BATCHES), Probe(b, {}, BATCHES)
    return further(*probes, learn(*probes, {}), evaluators)


class Count(nnx.Variable[Any]):
    pass


class Warming(nnx.Module):
    """A layer that is another one from its second step on."""

    def __init__(self, rngs: nnx.Rngs, factor: float, start: int) -> None:
        self.line = nnx.Linear(6, 1, rngs=rngs)
        self.count = Count(jnp.int32(start))
        self.factor = factor

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.line(x) * jnp.where(self.count[...] > 0, self.factor, 1.0)
        self.count[...] += 1
        return y


@pytest.mark.parametrize("factor", [1.0, 1.00001, 1.1])
def test_a_second_step_is_taken_from_what_the_first_left(factor: float) -> None:
    one, other = (
        NnxSide(lambda arguments, rngs, f=f: Warming(rngs, f, start=0), loss)  # type: ignore[misc]
        for f in (1.0, factor)
    )
    further = found(one, other)
    number, apart = further.later
    assert (number, "the loss" in apart) == ((1, True) if factor == 1.1 else (0, False))
    # What agrees, but is not equal, is known.
    assert [*further.farthest] == (["in later steps"] if factor == 1.00001 else [])


def test_counters_that_start_apart_are_told() -> None:
    one, other = (
        NnxSide(lambda arguments, rngs, n=n: Warming(rngs, 1.0, n), loss)  # type: ignore[misc]
        for n in (1, 0)
    )
    assert found(one, other).started == ("count: 1 and 0",)


Init = Callable[[jax.Array], Any]


def plain(init: Init, of: Any = loss) -> PlainSide:
    return PlainSide(init, lambda params, x: jnp.tanh(x @ params["w"]) * params["s"], of)


def fresh(draw: Callable[..., jax.Array] = jax.random.normal, scale: float = 1.0,
          temperature: float = 1.0) -> Init:  # fmt: skip
    return lambda key: {
        "w": scale * draw(key, (6, 7)),
        "s": jnp.float32(temperature),
        "z": jnp.ones(3),
    }


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (fresh(), ()),
        (fresh(scale=0.02), ("w: ",)),
        (fresh(temperature=0.5), ("s: 1 and 0.5",)),
        (fresh(lambda *given: jnp.zeros(given[1])), ("w: ",)),
        (fresh(lambda *given: jax.random.uniform(*given) * 2 - 1), ("w: ",)),
    ],
    ids=["the same", "scale", "one number", "zeros", "distribution"],
)
def test_fresh_models_are_compared_whatever_their_keys(second: Init, told: tuple[str]) -> None:
    lines = found(plain(fresh()), plain(second)).started
    assert len(lines) == len(told)
    assert all(line.startswith(begun) for line, begun in zip(lines, told, strict=True))


def layers(alike: bool) -> Any:
    """Three layers, drawn one by one or all with one key."""

    class Stacked(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            keys = jax.random.split(rngs.params(), 3)
            keys = keys[jnp.zeros(3, int)] if alike else keys
            self.w = nnx.Param(jax.vmap(lambda key: jax.random.normal(key, (6, 6)))(keys))
            self.b = nnx.Param(jnp.asarray([0.0, 1, 0] if alike else [1.0, 0, 0]).repeat(2))

        def __call__(self, x: jax.Array) -> jax.Array:
            for w in self.w[...]:
                x = jnp.tanh(x @ w) * self.b[...][None]
            return x

    return NnxSide(lambda arguments, rngs: Stacked(rngs), loss)


def test_layers_that_begin_alike_and_numbers_in_other_places_are_told() -> None:
    assert {*found(layers(False), layers(True)).started} == {
        "b: the same numbers in other places",
        "w: 108 and 36 different numbers in 108",
    }
    assert found(layers(False), layers(False)).started == ()


def test_evaluations_are_compared_and_what_no_step_takes_is_known() -> None:
    def evaluation(factor: float) -> Any:
        return lambda model, batch: (loss(model, batch), {"hits": factor * loss(model, batch)})

    side = plain(fresh())
    assert found(*(plain(fresh(), evaluation(n)) for n in (1, 2))).later == (
        0,
        {"hits": pytest.approx(0.5)},
    )
    told = found(side, side, (plain(fresh(), evaluation(1)), plain(fresh(), evaluation(2))))
    assert told.evaluated == {"hits": pytest.approx(0.5)}
    assert told.drawing == (False, False)
    assert told.unused == ("z",)
    assert found(side, side, (side, side)).evaluated == {}
