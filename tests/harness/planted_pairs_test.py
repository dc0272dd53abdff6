"""Faults planted in one side of pairs as users write them: each is named with both sides' lines."""

import linecache
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import planted_models as planted
import pytest
from flax import nnx
from small_pairs import error, module, of_linen, of_nnx, pair

from harness.bisecting import asking, telling
from harness.bisecting.telling import Found
from harness.cases import families, reading
from harness.training import drawing
from harness.training.parallel import mesh
from models.examples.own import cnn, decoder, regression
from models.pair import Pair


def compared(made: Pair) -> Found:
    with jax.numpy_dtype_promotion("standard"):  # as users have it: flax's pooling relies on it
        case = reading.load(reading.PAIR_CASE, "tiny", twins=module(f"planted_{id(made)}", made))
        found = asking.of_pair(case)
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


def dropped_first(net: Any, images: jax.Array) -> jax.Array:
    x = nnx.relu(net.norm(net.stem(images)))
    x = net.dropout(nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))
    return net.classes(nnx.relu(net.hidden(x)))


def frozen(net: Any, images: jax.Array) -> jax.Array:
    x = nnx.relu(net.norm(net.stem(images)))
    x = jax.lax.stop_gradient(nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))
    return net.classes(net.dropout(nnx.relu(net.hidden(x))))


class Masked(decoder.Block):
    """Its mask lets each position see the next one too."""

    def __call__(self, x: jax.Array) -> jax.Array:
        B, T, width = x.shape
        parts = jnp.split(self.qkv(self.norms[0](x)), 3, -1)
        query, key, value = (part.reshape(B, T, 2, -1) for part in parts)
        mask = jnp.tril(jnp.ones((B, 1, T, T)), 1)
        mixed = nnx.dot_product_attention(query, key, value, mask=mask)
        x = x + self.out(mixed.reshape(B, T, width))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class MaskedModel(decoder.Model):
    """The decoder with such layers."""

    def __init__(self, vocab: int, width: int, layers: int, rngs: nnx.Rngs) -> None:
        super().__init__(vocab, width, layers, rngs)
        self.blocks = nnx.List([Masked(width, rngs) for _ in range(layers)])


def of_decoder(model: Any, batch: Any, *, shift: int = 1, padded: bool = False) -> jax.Array:
    """The decoder's loss with the labels that are `shift` on, or all of them counted."""
    tokens = batch["tokens"]
    logits = jax.nn.log_softmax(model(tokens)[:, :-1])
    targets = tokens[:, shift : shift + 15]
    losses = -jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    weights = (tokens[:, 1:] != 0).astype(losses.dtype)
    return losses.mean() if padded else (losses * weights).sum() / weights.sum()


def decoded(**changed: Any) -> Pair:
    loss: Any = {"linen": of_decoder, "nnx": partial(of_decoder, **changed)}
    return replace(decoder.PAIR, loss=loss)


def of_regression(change: Callable[[Any], None]) -> Pair:
    """The regression with something of the NNX one changed."""

    class Changed(regression.Fit):
        def __init__(self, rngs: nnx.Rngs, hidden: int = 64) -> None:
            super().__init__(rngs, hidden)
            change(self)

    return replace(regression.PAIR, nnx=Changed)


class Decaying(nn.Module):
    """A running mean that begins at zero."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(6)(x)
        mean = self.variable("running", "mean", jnp.zeros, 6)
        if not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return nn.Dense(1)(x)[:, 0]


class Mean(nnx.Variable[Any]):
    pass


class DecayingNnx(nnx.Module):
    """The same, but that it forgets faster."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.last = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 1, rngs=rngs)
        self.mean = Mean(jnp.zeros(6))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.first(x)
        self.mean[...] = 0.8 * self.mean[...] + 0.1 * x.mean(0)
        return self.last(x)[:, 0]


def doubled(model: Any, batch: Any) -> Any:
    """The loss of the small pairs with twice its metric."""
    found, metrics = of_nnx()(model, batch)
    return found, {"error": 2 * metrics["error"]}


def begun_otherwise() -> Pair:
    """Running statistics that begin at one."""

    def made(rngs: nnx.Rngs) -> Any:
        model = pair().both["nnx"](rngs)
        model.norm.mean[...] = jnp.ones(6)
        return model

    return pair(nnx=made)


# Each with what stands in the line that is named of the Linen side, and of the NNX side.
Fault = tuple[Pair, str, str]
OWN: dict[str, Fault] = {
    "momentum": (pair(momentum=0.99), "BatchNorm", "self.norm("),
    "auxiliary weight": (pair(weight=0.2), "found + weight", "found + weight"),
    "a rate that is lost": (pair(both={"rate": 0.5}, rate=0.0), "where(kept", "where(kept"),
    "a slight epsilon": (pair(epsilon=1.02e-5), "BatchNorm", "self.norm("),
    "another metric": (pair(loss={"linen": of_linen(), "nnx": doubled}), "mean()", "2 *"),
    "a decay that zeros hide": (
        pair(linen=Decaying(), nnx=DecayingNnx, loss=error),
        "0.9 *",
        "0.8 *",
    ),
    "another pool": (of_cnn(call=other_pool), "avg_pool", "max_pool"),
    "padding": (of_cnn(lambda net: setattr(net.stem, "padding", "CIRCULAR")), "Conv", "stem"),
    "epsilon": (of_cnn(lambda net: setattr(net.norm, "epsilon", 2e-5)), "BatchNorm", "norm("),
    "order of norm and activation": (of_cnn(call=other_order), "relu(nn.Batch", "norm(nnx.relu"),
    "order of dropout and layer": (of_cnn(call=dropped_first), "Dropout", "net.dropout"),
    "a frozen array": (of_cnn(call=frozen), "BatchNorm", "net.norm("),
    "a mask that is off by one": (replace(decoder.PAIR, nnx=MaskedModel), "mask=", "mask=mask"),
    "labels that are not shifted": (decoded(shift=0), "targets[", "targets = "),
    "padding that is counted": (decoded(padded=True), "weights = ", "losses.mean()"),
    "a key that is used twice": (
        replace(regression.PAIR, linen=Twice(), nnx=Once, sizes={}),
        "make_rng",
        "normal(key",
    ),
    "a missing cast": (
        of_regression(lambda net: setattr(net.wide, "dtype", jnp.bfloat16)),
        "Dense(self.hidden",
        "self.wide",
    ),
}
PLANTED: dict[str, tuple[Callable[[str], Pair], str, str]] = {
    "another GELU": (planted.vit, "gelu", "gelu"),
    "residual scale": (planted.vit, "0.5 *", "1.0) *"),
    "a missing bias": (planted.vit, "gelu", "wide.bias"),
    "another pooling": (planted.vit, "mean(1)", "x[:, 0]"),
    "another gate": (planted.recurrent, "LSTMCell", "self.cell"),
    "read backwards": (planted.recurrent, "LSTMCell", "self.cell"),
    "padding that counts": (planted.recurrent, "weights = ", "errors.mean()"),
    "balance of squares": (planted.experts, "balance", "p**2"),
    "gates that are not scaled": (planted.experts, "gates.sum", "gates[..., None]"),
    "another activation": (planted.experts, "silu", "gelu"),
    "a frozen array that is trained": (planted.lora, "kernel", "kernel"),
    "the scale of a low rank": (planted.lora, "2.0 *", "1.0) *"),
    "a flipped kernel": (planted.generator, "wider", "flip"),
    "a variance over n - 1": (planted.generator, "BatchNorm", "(n - 1)"),
    "another slope": (planted.generator, "leaky_relu", "leaky_relu"),
    "the padding of a pool": (planted.generator, "max_pool", "max_pool"),
    "a variance for a deviation": (planted.vae, "0.5 *", "half *"),
    "the mean of a divergence": (planted.vae, "mean()", "/ 3"),
    "a loss that is summed": (planted.vae, "mean()", "sum()"),
}
FAULTS: dict[str, Fault] = OWN | {
    name: (make(name), one, other) for name, (make, one, other) in PLANTED.items()
}
SOUND = {
    "layer": pair(both={"rate": 0.5}),
    "cnn": cnn.PAIR,
    "decoder": decoder.PAIR,
    "regression": regression.PAIR,
    "vit": planted.vit(),
    "recurrent": planted.recurrent(),
    "experts": planted.experts(),
    "lora": planted.lora(),
    "generator": planted.generator(),
    "vae": planted.vae(),
}


def lines(verdict: str) -> list[tuple[str, str]]:
    """The source lines that a verdict names of both sides, entry by entry."""
    places = re.findall(r"linen at (\S+?):(\d+).*, nnx at (\S+?):(\d+)", verdict)
    return [
        (linecache.getline(one, int(n)), linecache.getline(other, int(m)))
        for one, n, other, m in places
    ]


@pytest.mark.bisect
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_from_rounding_and_from_other_masks(name: str) -> None:
    made, linen, other = FAULTS[name]
    told = telling.text(compared(made))
    assert told.startswith("different: of "), told
    named = lines(told.partition("first difference")[0])
    assert any(linen in one and other in two for one, two in named), f"{named}\n{told}"


def test_another_init_of_a_running_mean_is_named_before_any_step() -> None:
    matched = families.load(module("planted_begun", begun_otherwise())).matched
    assert matched is not None
    assert matched().started == (
        "fresh models hold other numbers: batch_stats/BatchNorm_0/mean: 0 and 1",
    )


@pytest.mark.bisect
@pytest.mark.parametrize("name", SOUND)
def test_sound_pairs_raise_no_alarm(name: str) -> None:
    found = compared(SOUND[name])
    assert found.is_rounding, telling.text(found)


@pytest.mark.bisect
def test_a_mask_that_repeats_on_one_side_is_named() -> None:
    twins = module("planted_fixed", pair(both={"rate": 0.5}, fixed=True))
    case = reading.load(reading.PAIR_CASE, "tiny", twins=twins)
    grid = mesh.make(case, jax.devices()[:1])
    found = [
        drawing.findings(drawing.drawn(case, families.of(case).get(name), grid))
        for name in ("linen", "nnx")
    ]
    assert found[0] == []
    assert found[1] == [
        "draws the same random numbers in every step, at tests/helpers/small_pairs.py:47"
    ]
