"""One side of a pair as an implementation of a family: its model, under the names of the first."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.pairing import links
from models.pairing.links import Link
from models.pairing.sides import (
    Arguments,
    Arrays,
    Held,
    Ran,
    Side,
    by_path,
    is_overwritten,
)
from models.seam import LONGEST, OWN, REPLACED, Batch, Outcome, Params, Variables
from models.shared.trees import nested

_STATE, _FROZEN, _RANDOM = "state", "frozen", "random"


@dataclass(frozen=True)
class Names:
    """The links of parameters and of state, of one size of the models."""

    params: tuple[Link, ...]
    state: tuple[Link, ...]


class Member:
    """Trains one side; what it is given and gives back is laid out and named as the first side's.

    names: the links, of arguments. example: a small batch, of arguments. trained: a pattern that is
    searched for in the paths of parameters; those without it are frozen. gathers: whether
    parameters are gathered for use, so that the batch alone is divided; else the models say
    themselves what lies where.
    """

    def __init__(
        self,
        sides: tuple[Side, Side],
        number: Literal[0, 1],
        names: Callable[[Arguments], Names],
        example: Callable[[Arguments], Batch],
        trained: str | None,
        gathers: bool = True,
    ) -> None:
        self._sides = sides
        self._number = number
        self._names = names
        self._example = example
        self._trained = re.compile(trained or "")
        self._gathers = gathers
        self._shapes = functools.cache(self._find_shapes)

    @property
    def _side(self) -> Side:
        return self._sides[self._number]

    def init(self, config: Any, key: jax.Array) -> Params | Variables:
        """Fresh variables."""
        arguments = arguments_of(config)
        held = self._side.init(arguments, key, self._example(arguments))
        params, state = self._to_first(arguments, held)
        linked = links.paths(self._names(arguments).state, self._number)
        alone = {path: one for path, one in held.state.items() if path not in linked}
        trained = {path: one for path, one in params.items() if self._trained.search(path)}
        frozen = {path: one for path, one in params.items() if path not in trained}
        model_state = _without_empty(
            {
                **_parted(state),
                _FROZEN: frozen,
                OWN: _without_empty({_RANDOM: _words(held.random), _STATE: alone}),
            }
        )
        return Variables(nested(trained), _nested(model_state)) if model_state else nested(trained)

    def loss(
        self,
        config: Any,
        params: Params,
        model_state: Params | None,
        batch: Batch,
        key: jax.Array,
    ) -> Outcome:
        """One forward pass."""
        arguments = arguments_of(config)
        before = {} if model_state is None else model_state
        own = before.get(OWN, {})
        ran = self._side.run(arguments, self._held(arguments, params, before), batch, key)
        metrics = _metrics(ran, batch)
        if model_state is None:
            return Outcome(ran.loss, metrics)
        after = dict(before)
        if _STATE in before:
            after[_STATE] = nested(_parted(self._to_first(arguments, ran.held)[1])[_STATE])
        if own:
            mine = {
                _RANDOM: _words(ran.held.random),
                _STATE: {path: ran.held.state[path] for path in by_path(own.get(_STATE, {}))},
            }
            after[OWN] = _nested(_without_empty(mine))
        return Outcome(ran.loss, metrics, after)

    def _held(self, arguments: Arguments, params: Params, model_state: Params) -> Held:
        """What this side holds, under its own names."""
        own = model_state.get(OWN, {})
        given = by_path(params) | by_path(model_state.get(_FROZEN, {}))
        linked = by_path(model_state.get(_STATE, {})) | by_path(model_state.get(REPLACED, {}))
        arrays = self._to_own(arguments, _gathered(given) if self._gathers else given, linked)
        state = arrays[1] | by_path(own.get(_STATE, {}))
        return Held(arrays[0], state, self._keys(arguments, by_path(own.get(_RANDOM, {}))))

    def logical_axes(self, config: Any) -> Params:
        """The names that the models give their axes; an array without is divided as it can be."""
        arguments = arguments_of(config)
        shapes = self._shapes(tuple(arguments.items()))
        named = [side.axes(arguments, self._example(arguments)) for side in self._sides]
        first: dict[str, tuple[str | None, ...]] = dict.fromkeys(
            (path for path in shapes[0][0] if self._trained.search(path)), LONGEST
        )
        for link in self._names(arguments).params:
            path, other = link.a[0][0], link.b[0][0]
            alike = link.plain and shapes[0][0][path].shape == shapes[1][0][other].shape
            axes = named[0].get(path) or (named[1].get(other) if alike else None)
            if path in first and axes:
                first[path] = axes
        return nested(first)

    def _to_first(self, arguments: Arguments, held: Held) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and linked state under the first side's names."""
        names = self._names(arguments)
        if self._number == 0:
            linked = links.paths(names.state, 0)
            return dict(held.params), {p: one for p, one in held.state.items() if p in linked}
        first = self._shapes(tuple(arguments.items()))[0]
        return (
            links.to_a(names.params, held.params, _forms(first.params)),
            links.to_a(names.state, held.state, _forms(first.state)),
        )

    def _to_own(
        self, arguments: Arguments, params: Arrays, state: Arrays
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and linked state under this side's own names."""
        if self._number == 0:
            return dict(params), dict(state)
        names = self._names(arguments)
        own_params, own_state = self._shapes(tuple(arguments.items()))[1][:2]
        return (
            links.to_b(names.params, params, _forms(own_params)),
            links.to_b(names.state, state, _forms(own_state)),
        )

    def _find_shapes(self, arguments: Any) -> list[Held]:
        """What both sides hold, as shapes."""
        return shapes_of(self._sides, dict(arguments), self._example(dict(arguments)))

    def _keys(self, arguments: Arguments, words: Arrays) -> dict[str, jax.Array]:
        """Random state as its framework has it: keys made of their words again."""
        forms = self._shapes(tuple(arguments.items()))[self._number].random
        return {path: _key_of(one, forms[path].dtype) for path, one in words.items()}


class Evaluated(Member):
    """A member that is evaluated otherwise than it is trained: as its `evaluator` runs."""

    def __init__(self, evaluator: Side, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._evaluator = evaluator

    def evaluation(
        self,
        config: Any,
        params: Params,
        model_state: Params | None,
        batch: Batch,
        key: jax.Array,
    ) -> Outcome:
        """One forward pass as the model is evaluated; what it holds stays as it is."""
        arguments = arguments_of(config)
        held = self._held(arguments, params, {} if model_state is None else model_state)
        ran = self._evaluator.run(arguments, held, batch, key)
        return Outcome(ran.loss, _metrics(ran, batch))


def arguments_of(config: Any) -> dict[str, Any]:
    """The fields of a config by name."""
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def shapes_of(sides: tuple[Side, Side], arguments: Arguments, batch: Batch) -> list[Held]:
    """What both sides hold, as shapes: no array is made."""
    key = jax.random.key(0, impl="threefry2x32")
    return [
        jax.eval_shape(lambda side=side: side.init(arguments, key, batch)) for side in sides
    ]  # fmt: skip


def _forms(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {path: tuple(one.shape) for path, one in arrays.items()}


def _parted(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a forward pass changes of a state, and what is replaced by its gradient."""
    replaced = {path: one for path, one in state.items() if is_overwritten(path)}
    return {_STATE: {p: one for p, one in state.items() if p not in replaced}, REPLACED: replaced}


def _is_key(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def _words(random: Arrays) -> dict[str, jax.Array]:
    return {
        path: jax.random.key_data(one) if _is_key(one.dtype) else one
        for path, one in random.items()
    }


def _key_of(words: jax.Array, dtype: Any) -> jax.Array:
    if not _is_key(dtype):
        return words
    return jax.random.wrap_key_data(words, impl=dtype._impl)  # JAX tells it nowhere else


def _without_empty(trees: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in trees.items() if tree}


def _nested(trees: Mapping[str, Any]) -> dict[str, Any]:
    """Each of these trees nested by its paths."""
    return {name: _nested(tree) if name == OWN else nested(tree) for name, tree in trees.items()}


def _gathered(params: Arrays) -> dict[str, Any]:
    if jax.sharding.get_abstract_mesh().empty:
        return dict(params)
    return {
        path: jax.lax.with_sharding_constraint(one, PartitionSpec()) for path, one in params.items()
    }


def _metrics(ran: Ran, batch: Batch) -> dict[str, jax.Array]:
    """Metrics by name, with how many examples the batch holds if the loss does not count."""
    return {"total_weights": jnp.float32(next(iter(batch.values())).shape[0]), **ran.metrics}
