"""A model cut into the pieces that a pipeline calls: its functions, and where its parameters part.

A family with a `pipeline`, a Cut, has implementations that are Pipelined beside what
models/seam.py asks of them. Its layers are all alike; each array of theirs is stacked [repeats,
stages, ...]: layer r * stages + s lies at [r, s], so that `reshape(layers, ...)` gives the plain
order, whatever the split. On the mesh their second axis has the logical name "stage".
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # a family can be told of without JAX
    import jax

Params = Mapping[str, Any]
Path = tuple[str, ...]


class Cut(NamedTuple):
    """Paths in the tree of parameters.

    layers: the stack of layers. norm: what stands between the last layer and the logits. table:
    the array [V, D] whose rows embed the tokens and whose products with the normed stream are the
    logits (models/shared/grouped.py), any rows of it those of their entries.
    """

    layers: Path
    norm: Path
    table: Path


class Pipelined(Protocol):
    """What an implementation offers beside `apply`: pure functions of pieces of its parameters.

    Parameters come in the type that `Family.compute_dtype` says, and x [B, T, D] is in it. `key` is
    the layer's: that of layer l of microbatch m is fold_in(fold_in(step's key, m), l), with m
    counted over the whole global batch in the order of its sequences, and that of `embed` has the
    number of layers for l. What is dropped is a function of the key and of x's shape.
    """

    def embed(
        self, config: Any, params: Params, tokens: "jax.Array", key: "jax.Array"
    ) -> "jax.Array":
        """The residual stream x [B, T, D] of tokens [B, T]; params: all but the layers."""
        ...

    def layer(self, config: Any, params: Params, x: "jax.Array", key: "jax.Array") -> "jax.Array":
        """x after one layer, whose parameters are unstacked."""
        ...

    def norm(self, config: Any, params: Params, x: "jax.Array") -> "jax.Array":
        """The normed x [B, T, D] after the last layer; params: those at the cut's `norm`."""
        ...


def at(params: Params, path: Path) -> Any:
    """The part of a tree at a path."""
    for name in path:
        params = params[name]
    return params


def without(params: Params, path: Path) -> Params:
    """The tree without what is at a path."""
    name, *rest = path
    if not rest:
        return {key: part for key, part in params.items() if key != name}
    return {**params, name: without(params[name], tuple(rest))}


def placed(params: Params, path: Path, part: Any) -> Params:
    """The tree with `part` at a path."""
    name, *rest = path
    inner = placed(params.get(name, {}), tuple(rest), part) if rest else part
    return {**params, name: inner}


def staged(params: Params, cut: Cut, stages: int) -> Params:
    """The tree with its layers stacked for so many stages, which must divide their number."""
    import jax

    def stack(array: "jax.Array") -> "jax.Array":
        repeats = array.shape[0] * array.shape[1] // stages
        return array.reshape(repeats, stages, *array.shape[2:])

    return placed(params, cut.layers, jax.tree.map(stack, at(params, cut.layers)))
