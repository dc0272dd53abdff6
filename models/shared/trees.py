"""Trees of arrays, and their leaves by path."""

from collections.abc import Callable, Mapping
from typing import Any

import jax


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves by path, such as `opt_state/0/mu/decoder/logits_dense/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of dicts whose leaves have these paths."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *branches, last = path.split("/")
        branch = tree
        for name in branches:
            branch = branch.setdefault(name, {})
        branch[last] = leaf
    return tree
