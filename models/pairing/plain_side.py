"""Plain functions, init and apply, as one side of a pair."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from models.pairing.sides import Arguments, Held, Ran, by_path, called, replaced
from models.seam import Batch


class PlainSide:
    """Calls `loss` with apply, bound to its parameters: `apply(params, ...)`.

    init: the parameters, any tree of arrays, of a key and the arguments by name.
    """

    def __init__(
        self, init: Callable[..., Any], apply: Callable[..., Any], loss: Callable[..., Any]
    ) -> None:
        self._init = init
        self._bound = apply
        self._loss = loss

    def init(self, arguments: Arguments, key: jax.Array, batch: Batch) -> Held:
        """See Side."""
        return Held(by_path(self._init(key, **arguments)), {}, {})

    def run(self, arguments: Arguments, held: Held, batch: Batch, key: jax.Array) -> Ran:
        """See Side."""
        tree = jax.eval_shape(lambda: self._init(jax.random.key(0), **arguments))
        bound = functools.partial(self._bound, replaced(tree, held.params))
        return Ran(*called(self._loss, bound, batch, key), held)

    def axes(self, arguments: Arguments, batch: Batch) -> Mapping[str, tuple[str | None, ...]]:
        """See Side."""
        return {}
