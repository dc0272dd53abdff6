"""A Linen module as one side of a pair: bound to its variables, its collections mutable."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen
import jax
from flax.core import DenyList, meta

from models.pairing.sides import Arguments, Held, Ran, by_path, called, replaced
from models.seam import Batch

_ASKS = re.compile(r"""needs PRNG for "(\w+)"|No RngStream named '(\w+)'""")  # the latter of NNX


class LinenSide:
    """Calls `loss` with the module bound to its variables.

    make: the module, of arguments. streams: the random streams that it is given in each step; one
    more that it asks for is given too. A collection that grows when it is handed on is what the
    module sows: it is empty before each step.
    """

    def __init__(
        self,
        make: Callable[[Arguments], flax.linen.Module],
        loss: Callable[..., Any],
        streams: tuple[str, ...],
    ) -> None:
        self._make = make
        self._loss = loss
        self._streams = list(streams)
        self._known: dict[Any, Mapping[str, Any]] = {}

    def init(self, arguments: Arguments, key: jax.Array, batch: Batch) -> Held:
        """See Side."""
        variables = meta.unbox(self._init(arguments, key, batch))
        return _held({name: variables.get(name, {}) for name in self._kept(arguments, batch)})

    def run(self, arguments: Arguments, held: Held, batch: Batch, key: jax.Array) -> Ran:
        """See Side."""
        others = dict(self._kept(arguments, batch))
        params = replaced(others.pop("params"), held.params)
        variables = {"params": params, **replaced(others, held.state)}
        (loss, metrics), after = self._apply(arguments, variables, batch, key)
        kept = {name: after[name] for name in variables if name in after}
        return Ran(loss, metrics, _held(variables | kept))

    def axes(self, arguments: Arguments, batch: Batch) -> Mapping[str, tuple[str | None, ...]]:
        """See Side."""
        boxed = jax.eval_shape(lambda b: self._init(arguments, jax.random.key(0), b), batch)
        boxes, _ = jax.tree_util.tree_flatten_with_path(
            boxed.get("params", {}), is_leaf=lambda one: isinstance(one, meta.AxisMetadata)
        )
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): tuple(box.names)
            for path, box in boxes
            if hasattr(box, "names")
        }

    def _init(self, arguments: Arguments, key: jax.Array, batch: Batch) -> Any:
        def init() -> Any:
            streams = {"params": key, **self._keys(jax.random.fold_in(key, 1))}
            module = self._make(arguments)
            # A module may have an init and an apply of its own, which take what its __call__ does.
            return flax.linen.Module.init(module, streams, batch, key, method=self._bound)

        return self._asked(init)

    def _apply(self, arguments: Arguments, variables: Any, batch: Batch, key: jax.Array) -> Any:
        return self._asked(
            lambda: flax.linen.Module.apply(
                self._make(arguments), variables, batch, key, rngs=self._keys(key),
                mutable=DenyList(("params",)), method=self._bound,
            )
        )  # fmt: skip

    def _bound(self, module: flax.linen.Module, batch: Batch, key: jax.Array) -> Any:
        return called(self._loss, module, batch, key)

    def _keys(self, key: jax.Array) -> dict[str, jax.Array]:
        return {name: jax.random.fold_in(key, n) for n, name in enumerate(self._streams)}

    def _asked(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, with every stream that the module asks for."""
        while True:
            try:
                return work()
            except (flax.errors.InvalidRngError, KeyError) as error:
                found = _ASKS.search(str(error))
                name = (found[1] or found[2]) if found is not None else None
                if name is None or name in self._streams:
                    raise
                self._streams.append(name)

    def _kept(self, arguments: Arguments, batch: Batch) -> Mapping[str, Any]:
        """The collections that are carried from step to step as shapes, parameters first."""
        which = tuple(arguments.items())
        if which not in self._known:
            self._known[which] = self._find_kept(arguments, batch)
        return self._known[which]

    def _find_kept(self, arguments: Arguments, batch: Batch) -> Mapping[str, Any]:
        def both(batch: Batch) -> Any:
            key = jax.random.key(0)
            variables = dict(meta.unbox(self._init(arguments, key, batch)))
            variables.pop("intermediates", None)
            _, after = self._apply(arguments, variables, batch, key)
            return variables, {**variables, **after}

        before, after = jax.eval_shape(both, batch)
        kept = {name: tree for name, tree in before.items() if _forms(tree) == _forms(after[name])}
        return {"params": before.get("params", {}), **kept}


def _held(variables: Mapping[str, Any]) -> Held:
    others = {name: tree for name, tree in variables.items() if name != "params"}
    return Held(by_path(variables["params"]), by_path(others), {})


def _forms(tree: Any) -> dict[str, Any]:
    return {path: (leaf.shape, leaf.dtype) for path, leaf in by_path(tree).items()}
