"""Trees of arrays, and their leaves by path."""

from models.shared.trees import named_leaves, nested

TREE = {"step": 1, "params": {"a": {"kernel": 2}, "b": 3}}
LEAVES = {"params/a/kernel": 2, "params/b": 3, "step": 1}


def test_leaves_have_paths_and_paths_make_the_tree() -> None:
    assert named_leaves(TREE) == LEAVES
    assert nested(LEAVES) == TREE


def test_a_branch_may_count_as_a_leaf() -> None:
    axes = {"a": {"kernel": ("embed", None)}}
    assert named_leaves(axes, is_leaf=lambda one: isinstance(one, tuple)) == {
        "a/kernel": ("embed", None)
    }
