"""Trees of arrays, and their leaves by path."""

import jax.numpy as jnp

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


def test_a_branch_may_count_as_a_leaf() -> None:
    axes = {"a": {"kernel": ("embed", None)}}
    assert named_leaves(axes, is_leaf=lambda one: isinstance(one, tuple)) == {
        "a/kernel": ("embed", None)
    }
