"""Partners are found by what arrays do, whatever they are called and however they are laid out."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.pairing import links
from models.pairing.learning import Learnt, learn
from models.pairing.linen_side import LinenSide
from models.pairing.nnx_side import NnxSide
from models.pairing.plain_side import PlainSide
from models.pairing.probing import Probe

D, F = 6, 10


class Linen(nn.Module):
    """Two layers that are listed, with three matrices each."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            gate, up = nn.Dense(F, use_bias=False)(x), nn.Dense(F, use_bias=False)(x)
            x = nn.LayerNorm()(x + nn.Dense(D)(nn.silu(gate) * up))
        return x


class Layer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.both = nnx.Linear(D, 2 * F, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(F, D, rngs=rngs)
        self.norm = nnx.LayerNorm(D, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        up, gate = jnp.split(self.both(x), 2, axis=-1)
        return self.norm(x + self.down(nnx.silu(gate) * up))


class Stacked(nnx.Module):
    """The same: layers stacked and scanned, two matrices in one, the other way round."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        make = nnx.vmap(Layer, in_axes=0, out_axes=0)
        self.layers = nnx.split_rngs(splits=2)(make)(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scan = nnx.scan(lambda layer, x: layer(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        return scan(self.layers, x)


def loss(model: Any, batch: Any) -> jax.Array:
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


BATCH = {
    name: np.random.default_rng(n).standard_normal((5, D)).astype("float32")
    for n, name in enumerate("xy")
}
LINEN = LinenSide(lambda arguments: Linen(), loss, ())


def learnt(a: Any, b: Any, names: dict[str, str] | None = None) -> Learnt:
    return learn(Probe(a, {}, [BATCH]), Probe(b, {}, [BATCH]), names or {})


def test_a_fused_scanned_stack_is_what_is_listed_in_parts() -> None:
    found = learnt(LINEN, NnxSide(lambda arguments, rngs: Stacked(rngs), loss))
    assert found.agrees
    assert found.alone == ((), ())
    lines = links.lines(found.params)
    fused = (
        "Dense_1/kernel to Dense_4/kernel, stacked + Dense_0/kernel to Dense_3/kernel, stacked"
        " = layers/both/kernel  (2 side by side along axis 2, by value)"
    )
    assert fused in lines
    assert (
        "LayerNorm_0/scale to LayerNorm_1/scale, stacked = layers/norm/scale  (by value)" in lines
    )


def _init(key: jax.Array) -> Any:
    keys = jax.random.split(key, 2)
    return {
        "first": jax.random.normal(keys[0], (D, D)),
        "second": jax.random.normal(keys[1], (F, D)),
    }


def _init_turned(key: jax.Array) -> Any:
    return {"p": {"z": _init(key)["first"], "a": _init(key)["second"].T}}


def _apply(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["first"]) @ params["second"].T @ params["second"]


def _apply_turned(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["p"]["z"].T) @ params["p"]["a"] @ params["p"]["a"].T


def test_transposed_matrices_of_plain_functions() -> None:
    found = learnt(PlainSide(_init, _apply, loss), PlainSide(_init_turned, _apply_turned, loss))
    assert found.agrees
    assert links.lines(found.params) == [
        "first = p/z  (taken with axes 1, 0, by value)",
        "second = p/a  (taken with axes 1, 0, by value)",
    ]


class Renamed(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, epsilon: float = 1e-6) -> None:
        self.z = nnx.Linear(D, D, rngs=rngs)
        self.a = nnx.Linear(D, D, rngs=rngs)
        self.n = nnx.LayerNorm(D, epsilon=epsilon, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a(jnp.tanh(self.n(self.z(x))))


@pytest.mark.parametrize("epsilon", [1e-6, 3.0])
def test_models_that_differ_are_matched_by_order_and_names(epsilon: float) -> None:
    one = NnxSide(lambda arguments, rngs: Renamed(rngs), loss)
    other = NnxSide(lambda arguments, rngs: Renamed(rngs, epsilon), loss)
    found = learnt(one, other)
    assert {(link.a, link.b) for link in found.params} == {
        (link.a, link.a) for link in found.params
    }
    assert found.agrees == (epsilon == 1e-6)


def test_partners_that_are_given_are_taken() -> None:
    side = NnxSide(lambda arguments, rngs: Renamed(rngs), loss)
    found = learnt(side, side, {"z/kernel": "a/kernel"})
    assert "z/kernel = a/kernel  (by hand)" in links.lines(found.params)
    assert "a/kernel = z/kernel  (by order)" in links.lines(found.params)


def _fused(act: Any) -> tuple[PlainSide, PlainSide]:
    """Three matrices, and one of all three; a square one that is folded, and one transposed."""

    def parts(key: jax.Array) -> Any:
        shapes = {"q": (D, 2, 5), "k": (D, 2, 5), "v": (D, 2, 5), "out": (2, 3, D)}
        return {name: jax.random.normal(key, shape) for name, shape in shapes.items()}

    def whole(key: jax.Array) -> Any:
        shapes = {"one": (D, 30), "two": (D, D)}
        return {name: jax.random.normal(key, shape) for name, shape in shapes.items()}

    def mixed(one: Sequence[jax.Array], act: Any) -> jax.Array:
        q, k, v = one
        return (act(q) * k + jnp.sin(v))[:, :D]

    def of_parts(params: Any, x: jax.Array) -> jax.Array:
        one = [x @ params[name].reshape(D, 10) for name in "qkv"]
        return mixed(one, jnp.tanh) @ params["out"].reshape(D, D)

    def of_whole(params: Any, x: jax.Array) -> jax.Array:
        return mixed(jnp.split(x @ params["one"], 3, axis=1), act) @ params["two"].T

    return PlainSide(parts, of_parts, loss), PlainSide(whole, of_whole, loss)


@pytest.mark.parametrize("act", [jnp.tanh, jnp.cos])
def test_parts_of_a_whole_are_told_by_value_and_where_models_differ_by_order(act: Any) -> None:
    found = learnt(*_fused(act))
    assert found.alone == ((), ())
    assert found.agrees == (act is jnp.tanh)
    how = "value" if found.agrees else "order"
    fused, square = links.lines([link for link in found.params if len(link.a) > 1]), found.params
    assert fused == [f"q + k + v = one  (3 side by side along axis 1, by {how})"]
    if found.agrees:
        (folded,) = [link for link in square if link.b == (("two",),)]
        assert links.lines([folded]) == ["out = two  (taken with axes 2, 0, 1, by value)"]


def test_what_one_model_has_more_is_no_part_of_what_both_have() -> None:
    def init(key: jax.Array) -> Any:
        return {"two": {"bias": jnp.ones(2 * D)}}

    def init_more(key: jax.Array) -> Any:
        halves = {name: {"bias": jnp.ones(D)} for name in "ab"}
        return {**init(key), **halves, "c": {"scale": jnp.ones(2 * D)}}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return (jnp.tile(x, 2) + params["two"]["bias"][None])[:, :D]

    def apply_more(params: Any, x: jax.Array) -> jax.Array:
        halves = params["a"]["bias"] + params["b"]["bias"]
        return apply(params, x + halves[None]) * params["c"]["scale"][None, :D]

    found = learnt(PlainSide(init, apply, loss), PlainSide(init_more, apply_more, loss))
    assert found.alone == ((), ("a/bias", "b/bias", "c/scale"))


class Count(nnx.Variable[Any]):
    pass


class Counted(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, start: int, step: int) -> None:
        self.line = nnx.Linear(D, D, rngs=rngs)
        self.count = Count(jnp.int32(start))
        self.step = step

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count[...] += self.step
        return self.line(x)


@pytest.mark.parametrize("step", [1, 2])
def test_counters_that_start_apart_are_compared_from_one_start(step: int) -> None:
    one = NnxSide(lambda arguments, rngs: Counted(rngs, start=1, step=1), loss)
    other = NnxSide(lambda arguments, rngs: Counted(rngs, start=0, step=step), loss)
    found = learnt(one, other)
    assert found.agrees == (step == 1)
    assert list(found.differing) == ([] if step == 1 else ["count"])
