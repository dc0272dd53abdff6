"""Trees of arrays, and their leaves by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.shared.trees import named_leaves, nested, perturbed

TREE = {"step": 1, "params": {"a": {"kernel": 2}, "b": 3}}
LEAVES = {"params/a/kernel": 2, "params/b": 3, "step": 1}


def test_leaves_have_paths_and_paths_make_the_tree() -> None:
    assert named_leaves(TREE) == LEAVES
    assert nested(LEAVES) == TREE


def test_what_is_moved_upwards_becomes_no_smaller_and_counters_stay() -> None:
    tree = {"count": jnp.int32(3), "var": jnp.ones(50)}
    moved, freely = perturbed(tree, 0, upwards=True), perturbed(tree, 0)
    assert (moved["count"], freely["count"]) == (3, 3)
    assert (moved["var"] > 1).all()
    assert 10 < (freely["var"] < 1).sum() < 40


def test_arrays_are_moved_by_a_tenth_of_their_spread_each_by_its_own_draws() -> None:
    wide = jnp.linspace(-50.0, 50.0, 2000)
    tree = {"one": wide, "other": wide, "still": jnp.zeros(2000)}
    moves = jax.tree.map(jnp.subtract, perturbed(tree, 3), tree)
    assert float(moves["one"].std()) == pytest.approx(0.1 * float(wide.std()), rel=0.1)
    assert float(moves["still"].std()) == pytest.approx(0.1, rel=0.1)
    assert abs(np.corrcoef(moves["one"], moves["other"])[0, 1]) < 0.1
    assert not np.array_equal(perturbed(tree, 4)["one"], perturbed(tree, 3)["one"])


def test_a_branch_may_count_as_a_leaf() -> None:
    axes = {"a": {"kernel": ("embed", None)}}
    assert named_leaves(axes, is_leaf=lambda one: isinstance(one, tuple)) == {
        "a/kernel": ("embed", None)
    }
