"""An NNX module as one side of a pair: taken apart once, put together inside each step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from models.pairing import scopes
from models.pairing.sides import (
    OVERWRITTEN,
    Arguments,
    Held,
    PairFault,
    Ran,
    by_path,
    called,
    replaced,
)
from models.seam import Batch
from models.shared import partitioning

_NAMES = ("sharding_names", "out_sharding", "sharding")  # of metadata, over flax's versions


class NnxSide:
    """Calls `loss` with the module; its random state is carried on as its own loop would.

    make: the module, of arguments and nnx.Rngs. What the module sows is popped after each step.
    """

    def __init__(
        self, make: Callable[[Arguments, nnx.Rngs], nnx.Module], loss: Callable[..., Any]
    ) -> None:
        self._make = make
        self._loss = loss
        self._parts = functools.cache(self._take_apart)

    def init(self, arguments: Arguments, key: jax.Array, batch: Batch) -> Held:
        """See Side."""
        return _held(*_split(self._build(arguments, key))[1:])

    def run(self, arguments: Arguments, held: Held, batch: Batch, key: jax.Array) -> Ran:
        """See Side."""
        graph, *parts = self._parts(tuple(arguments.items()), *_mesh())
        if graph is None:
            graph = _split(self._build(arguments, key))[0]
        params, state, random, overwritten = parts
        own = {path.removeprefix(f"{OVERWRITTEN}/"): one for path, one in held.state.items()}
        model = nnx.merge(
            graph,
            replaced(params, held.params),
            replaced(state, held.state),
            replaced(random, held.random),
            replaced(overwritten, own),
        )
        before = _attributes(model)
        with scopes.named(model):
            loss, metrics = called(self._loss, model, batch, key)
        now = _attributes(model)
        altered = {path for path in before.keys() & now.keys() if before[path] != now[path]}
        after = _held(*_split(model)[1:])
        # What is there only now was sown, whatever its type.
        kept = [{path: now.get(path, was[path]) for path in was}
                for was, now in zip(held, after, strict=True)]  # fmt: skip
        return Ran(loss, metrics, Held(*kept), frozenset(altered))

    def axes(self, arguments: Arguments, batch: Batch) -> Mapping[str, tuple[str | None, ...]]:
        """See Side."""
        params = self._parts(tuple(arguments.items()), *_mesh())[1]
        found = {}
        for path, variable in nnx.to_flat_state(params):
            about = variable.get_metadata()
            names = next((about[name] for name in _NAMES if about.get(name)), None)
            if isinstance(names, tuple):
                found["/".join(map(str, path))] = names
        return found

    def _build(self, arguments: Arguments, key: jax.Array) -> nnx.Module:
        with nnx.use_eager_sharding(False):
            model = self._make(arguments, nnx.Rngs(key))
        if not isinstance(model, nnx.Module):
            raise PairFault(f"makes a {type(model).__name__}; must make an nnx.Module")
        return model

    def _take_apart(self, arguments: Any, *mesh: Any) -> Any:
        """The module's structure, its parameters, state and random state as shapes.

        mesh: that in force, over which a model may lay what it computes. The structure is None
        where it holds arrays that are no variables: they are of the trace in which they were made.
        """
        graphs = []

        def parts() -> Any:
            graph, *parts = _split(self._build(dict(arguments), jax.random.key(0)))
            graphs.append(graph)
            return parts

        shapes = jax.eval_shape(parts)
        traced = any(
            isinstance(leaf, jax.core.Tracer)
            for _, attribute in graphs[0].attributes
            for leaf in jax.tree.leaves(getattr(attribute, "value", None))
        )
        return [None if traced else graphs[0], *shapes]


def _mesh() -> tuple[Any, Any]:
    return jax.sharding.get_abstract_mesh(), partitioning.mesh_in_force()


def _attributes(model: nnx.Module) -> dict[str, Any]:
    """What modules hold beside arrays and other modules, by path."""
    return {
        "/".join(map(str, (*path, name))): value
        for path, module in nnx.iter_modules(model)
        for name, value in vars(module).items()
        if value is None or isinstance(value, bool | int | float | str)
    }


def _split(model: nnx.Module) -> tuple[Any, Any, Any, Any, Any]:
    """Structure, parameters, other state, random state, and what a gradient replaces."""
    nnx.pop(model, nnx.Intermediate)
    parts: Any = nnx.split(model, nnx.Param, nnx.RngState, _is_overwritten, ...)
    graph, params, random, overwritten, state = parts
    return graph, params, state, random, overwritten


def _is_overwritten(path: Any, variable: Any) -> bool:
    """Whether it is of a collection of Linen's that was carried over by flax's bridge."""
    return getattr(variable, "type", type(variable)).__name__ == OVERWRITTEN


def _held(params: Any, state: Any, random: Any, overwritten: Any) -> Held:
    replaced = {f"{OVERWRITTEN}/{path}": one for path, one in by_path(overwritten).items()}
    return Held(by_path(params), by_path(state) | replaced, by_path(random))
