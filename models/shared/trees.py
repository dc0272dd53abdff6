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


def perturbed(params: Any, seed: int, upwards: bool = False) -> Any:
    """The parameters, each moved by a tenth of its spread, or by 0.1 where all are equal.

    A norm's fresh scale is 1 and a bias 0: whether they are there at all could not be seen.
    upwards: none becomes smaller. What is not of floating point stays.
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), max(1, len(leaves)))[: len(leaves)]
    moved = []
    for leaf, key in zip(leaves, keys, strict=True):
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            moved.append(leaf)
            continue
        spread = leaf.std()
        noise = jax.random.normal(key, leaf.shape, leaf.dtype)
        noise = abs(noise) if upwards else noise
        moved.append(leaf + 0.1 * noise * jax.numpy.where(spread > 0, spread, 1))
    return jax.tree.unflatten(structure, moved)
