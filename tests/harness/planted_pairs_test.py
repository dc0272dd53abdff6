"""Faults planted in one side of pairs as users write them: each is named with both sides' lines."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import pytest
from flax import nnx
from small_pairs import module, pair

from harness.bisecting import asking, computing, telling
from harness.bisecting.telling import Found
from harness.cases import families, reading
from harness.training import drawing
from harness.training.parallel import mesh
from models.examples.own import cnn, decoder, regression
from models.pair import Pair

pytestmark = pytest.mark.bisect


def compared(made: Pair) -> Found:
    with jax.numpy_dtype_promotion("standard"):  # as users have it: flax's pooling relies on it
        case = reading.load(reading.PAIR_CASE, "tiny", twins=module(f"planted_{id(made)}", made))
        family, grid = families.of(case), mesh.make(case, jax.devices()[:1])
        (params, state), (_, other) = (computing.fresh(case, n, grid) for n in family.names)
        a, b = (family.get(name) for name in family.names)
        found = asking.between(case, ("linen", "nnx"), a, b, params, (state, other))
        assert found.judged or found.parting is None
    return found


class Twice(nn.Module):
    """Two noises of two keys."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        x = nn.tanh(nn.Dense(8)(x))
        return nn.Dense(1)(x + jax.random.normal(self.make_rng("noise"), x.shape))[:, 0]


class Once(nnx.Module):
    """Two noises of one key."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.wide = nnx.Linear(8, 8, rngs=rngs)
        self.narrow = nnx.Linear(8, 1, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x: jax.Array) -> jax.Array:
        key = self.rngs.noise()
        x = x + jax.random.normal(key, x.shape)
        x = nnx.tanh(self.wide(x))
        return self.narrow(x + jax.random.normal(key, x.shape))[:, 0]


def of_cnn(change: Callable[[Any], None] = lambda network: None, call: Any = None) -> Pair:
    """The CNN with something of the NNX one changed."""

    class Changed(cnn.Network):
        def __init__(self, rngs: nnx.Rngs, width: int = 32) -> None:
            super().__init__(rngs, width)
            change(self)

        def __call__(self, images: jax.Array) -> jax.Array:
            return super().__call__(images) if call is None else call(self, images)

    return replace(cnn.PAIR, nnx=Changed)


def other_pool(net: Any, images: jax.Array) -> jax.Array:
    x = nnx.relu(net.norm(net.stem(images)))
    x = nnx.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
    return net.classes(net.dropout(nnx.relu(net.hidden(x))))


def other_order(net: Any, images: jax.Array) -> jax.Array:
    x = net.norm(nnx.relu(net.stem(images)))
    x = nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
    return net.classes(net.dropout(nnx.relu(net.hidden(x))))


def frozen(net: Any, images: jax.Array) -> jax.Array:
    x = nnx.relu(net.norm(net.stem(images)))
    x = jax.lax.stop_gradient(nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))
    return net.classes(net.dropout(nnx.relu(net.hidden(x))))


FAULTS: dict[str, tuple[Pair, str]] = {
    "momentum": (pair(momentum=0.99), "BatchNorm_0"),
    "auxiliary weight": (pair(weight=0.2), "before Dense_1/kernel"),
    "a rate that is lost": (pair(both={"rate": 0.5}, rate=0.0), "Dense_1"),
    "another pool": (of_cnn(call=other_pool), "Dense_0"),
    "padding": (of_cnn(lambda net: setattr(net.stem, "padding", "CIRCULAR")), "Conv_0"),
    "epsilon": (of_cnn(lambda net: setattr(net.norm, "epsilon", 2e-5)), "BatchNorm_0"),
    "order of norm and activation": (of_cnn(call=other_order), "BatchNorm_0"),
    "a frozen array": (of_cnn(call=frozen), ""),
    "a key that is used twice": (replace(regression.PAIR, linen=Twice(), nnx=Once, sizes={}), ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_from_rounding_and_from_other_masks(name: str) -> None:
    made, place = FAULTS[name]
    found = compared(made)
    told = telling.text(found)
    assert told.startswith("different: of "), told
    assert not found.is_rounding
    verdict = told.partition("first difference")[0]
    assert place in verdict, told
    assert verdict.splitlines()[2].count(".py:") == 2, told


@pytest.mark.parametrize(
    "made", [pair(both={"rate": 0.5}), cnn.PAIR, decoder.PAIR, regression.PAIR]
)
def test_sound_pairs_raise_no_alarm(made: Pair) -> None:
    found = compared(made)
    assert found.is_rounding, telling.text(found)


def test_a_mask_that_repeats_on_one_side_is_named() -> None:
    twins = module("planted_fixed", pair(both={"rate": 0.5}, fixed=True))
    case = reading.load(reading.PAIR_CASE, "tiny", twins=twins)
    grid = mesh.make(case, jax.devices()[:1])
    lines = [
        drawing.findings(drawing.drawn(case, families.of(case).get(name), grid))
        for name in ("linen", "nnx")
    ]
    assert lines[0] == []
    assert lines[1] == [
        "draws the same random numbers in every step, at tests/helpers/small_pairs.py:47"
    ]
