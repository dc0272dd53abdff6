"""The pairs that come as examples, as anybody would try them first."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from models import seam
from models.pair import Pair
from models.seam import Variables
from models.shared.trees import named_leaves

OWN = "models.examples.own"
WHOSE = ": one trains both, the case's, as the pair gives none"
OPTIMIZER = f"optimizers of their own, and what these freeze{WHOSE}"


@pytest.mark.pairs
@pytest.mark.parametrize("name", ["cnn", "decoder", "regression"])
def test_an_example_is_one_model_under_two_names(name: str) -> None:
    family = seam.load(f"{OWN}.{name}")
    assert family.matched is not None
    with jax.numpy_dtype_promotion("standard"):  # as users have it: flax's pooling relies on it
        matched = family.matched()
    random = {"cnn": "dropout/rngs/count and 1 more", "regression": "rngs/default/count and 1 more"}
    assert (matched.alone, matched.differing, matched.started) == ((), (), ())
    # A fused product rounds otherwise.
    assert all("rounding" in line for line in matched.unsure)
    first, *uncompared = matched.uncompared
    assert first == OPTIMIZER
    assert [line for line in uncompared if "evaluated" not in line] == (
        [f"nnx's random state ({random[name]})"] if name in random else []
    )
    # An evaluation is compared where the pair says what it is.
    assert any("evaluated" in line for line in matched.uncompared) == (name == "regression")
    open_ones = [line for line in matched.names if not line.endswith("by value)")]
    # The bias of a key moves no probability: nothing but its name tells what it is.
    assert all("key/bias" in line for line in open_ones)
    if name == "decoder":
        assert (
            "attention_0/query/kernel + attention_0/key/kernel + attention_0/value/kernel"
            " = blocks/0/qkv/kernel  (3 side by side along axis 1, by value)"
        ) in matched.names
        assert_is_learnt_for_the_full_size(family)


def assert_is_learnt_for_the_full_size(family: seam.Family) -> None:
    """Four layers of 128, where two of 8 were tried; and the names lead there and back."""
    config = family.config()
    key = jax.random.key(0)
    shapes = []
    for name in family.names:
        made = jax.eval_shape(functools.partial(family.get(name).init, config), key)
        params = made.params if isinstance(made, Variables) else made
        shapes.append({path: leaf.shape for path, leaf in named_leaves(params).items()})
    assert shapes[0] == shapes[1]
    assert shapes[0]["attention_3/query/kernel"] == (128, 2, 64)
    assert family.renamed is not None
    arrays = {path: np.random.default_rng(0).random(shape) for path, shape in shapes[0].items()}
    there = family.renamed(config, "nnx", arrays)
    assert there is not None
    assert there["blocks/3/qkv/kernel"].shape == (128, 384)
    back = family.renamed(config, "linen", there)
    assert back is not None
    assert all((back[path] == one).all() for path, one in arrays.items())
    assert family.renamed(config, "nnx", {"x": np.zeros(3)}) is None


def _plain(first: str, second: str) -> tuple[Any, Any]:
    """Two functions whose parameters have these names."""

    def init(key: jax.Array) -> dict[str, jax.Array]:
        return {first: jax.random.normal(key, (2, 3)), second: jax.random.normal(key, (3, 2))}

    return init, lambda params, x: jax.numpy.tanh(x @ params[first]) @ params[second]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (lambda x: (x**2).mean() + 1, "a and b make losses of "),
        (
            lambda x: jax.numpy.log(-(x**2)).mean(),
            "a and b make losses of 0.734209716 and nan",
        ),
    ],
    ids=["constant", "nan"],
)
def test_losses_that_differ_by_a_constant_or_are_no_numbers_are_told(
    second: Callable[[jax.Array], jax.Array], told: str
) -> None:
    family = Pair(
        sides={"a": _plain("x", "y"), "b": _plain("x", "y")},
        batch=lambda rng, size: {"x": rng.standard_normal((size, 2))},
        loss={
            "a": lambda model, batch: (model(batch["x"]) ** 2).mean(),
            "b": lambda model, batch: second(model(batch["x"])),
        },
    ).family("plain")
    assert family.matched is not None
    matched = family.matched()
    (found,) = [line for line in matched.differing if "losses" in line]
    assert found.startswith(told)


def test_of_many_arrays_that_differ_the_farthest_apart_is_told() -> None:
    def init(key: jax.Array) -> dict[str, jax.Array]:
        return {name: jax.random.normal(key, (width,)) for width, name in enumerate("abcde", 2)}

    def summed(params: Any, scales: Any) -> Any:
        return sum(scales[name] * (array**2).sum() for name, array in params.items())

    family = Pair(
        sides={"first": (init, summed), "second": (init, summed)},
        batch=lambda rng, size: {"x": rng.standard_normal(size)},
        loss={
            "first": lambda model, batch: model(dict.fromkeys("abcde", batch["x"].mean())),
            "second": lambda model, batch: model(
                dict.fromkeys("abde", 1.1 * batch["x"].mean()) | {"c": 0 * batch["x"].mean()}
            ),
        },
    ).family("many")
    assert family.matched is not None
    (found,) = family.matched().differing
    assert found == (
        "first and second make another gradient or state from equal values in 5 of 5 arrays,"
        " at most 100 % apart (c)"
    )


def test_what_a_step_does_not_show_is_found_or_said() -> None:
    def batch(rng: Any, size: int) -> Any:
        alike = np.broadcast_to(np.arange(2.0), (size, 2))
        return {
            "x": rng.standard_normal((size, 2)),
            "weight": np.ones(size),
            "none": np.ones(size),
            "alike": alike,
        }

    def error(model: Any, batch: Any, key: Any = None) -> Any:
        return (model(batch["x"]) ** 2).mean() + batch["alike"].mean()

    def weighed(model: Any, batch: Any) -> Any:
        found = ((model(batch["x"]) ** 2).mean(1) * batch["weight"]).sum()
        found = found / batch["weight"].sum() + batch["alike"].mean()
        return found, {"error": found}

    family = Pair(
        sides={"a": _plain("x", "y"), "b": _plain("x", "y")},
        batch=batch,
        loss={"a": weighed, "b": error},
        evaluation={
            "a": error,
            "b": lambda model, batch, key: 2 * error(model, batch) + 0 * jax.random.normal(key),
        },
        optimizer=lambda settings, learning_rate: None,
        trained="",
    ).family("unseen")
    assert family.matched is not None
    matched = family.matched()
    assert matched.differing == (
        "a and b are evaluated otherwise: the loss, 50 % apart; b draws random numbers there:"
        " model.eval() of an nnx.Module, or deterministic=True, ends that",
    )
    assert matched.alone == ("a: its use of the batch's weight",)
    assert matched.uncompared == (
        "optimizers of their own: one trains both, the pair's",
        "the batch's none, which neither side takes",
        "other values of the batch's alike: all examples have the same",
        "other values of the batch's weight: all are 1",
        "a: its metrics error",
    )


def test_dropout_that_is_never_put_to_use_is_said() -> None:
    class Quiet(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.dense = nnx.Linear(2, 3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.dropout(self.dense(x))

    family = Pair(
        sides={"a": lambda rngs: Quiet(rngs=rngs), "b": lambda rngs: Quiet(rngs=rngs)},
        batch=lambda rng, size: {"x": rng.standard_normal((size, 2))},
        loss=lambda model, batch: (model(batch["x"]) ** 2).mean(),
    ).family("quiet")
    assert family.matched is not None
    vain = [line for line in family.matched().uncompared if "random state" in line]
    assert [line.partition(", with")[2] for line in vain] == [
        " which no step draws: is its dropout put to use?"
    ] * 2


def test_names_that_lead_elsewhere_are_told() -> None:
    """Two models load one checkpoint otherwise, though the map makes them equal."""

    def gated(gate: str, up: str) -> Any:
        def init(key: jax.Array) -> Any:
            return {name: jax.random.normal(key, (2, 3)) for name in ("gate", "up")}

        return init, lambda params, x: jax.nn.silu(x @ params[gate]) * (x @ params[up])

    def unsure(*second: str) -> tuple[str, ...]:
        family = Pair(
            sides={"a": gated("gate", "up"), "b": gated(*second)},
            batch=lambda rng, size: {"x": rng.standard_normal((size, 2))},
            loss=lambda model, batch: (model(batch["x"]) ** 2).mean(),
        ).family("gated")
        assert family.matched is not None
        return family.matched().unsure

    assert unsure("gate", "up") == ()
    (line,) = unsure("up", "gate")
    assert line.endswith("by names makes another model: gate is up; up is gate")


def test_what_is_trained_and_what_is_frozen_is_renamed_too() -> None:
    family = Pair(
        sides={"a": _plain("frozen", "trained"), "b": _plain("x", "y")},
        batch=lambda rng, size: {"x": rng.standard_normal((size, 2))},
        loss=lambda model, batch: (model(batch["x"]) ** 2).mean(),
        trained="trained",
    ).family("plain")
    assert family.renamed is not None
    renamed = functools.partial(family.renamed, family.config(), "b")
    frozen, trained = {"frozen": np.ones((2, 3))}, {"trained": np.ones((3, 2))}
    assert [[*(renamed(tree) or {})] for tree in (frozen, trained, frozen | trained)] == [
        ["x"], ["y"], ["x", "y"]
    ]  # fmt: skip
