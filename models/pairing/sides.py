"""What both sides of a pair can do, whatever framework they are written in."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from models.seam import Batch

_STEPS = ("step", "loss", "grad_norm", "learning_rate", "step_seconds", "after_save", "after_eval")
_TAKEN = (*_STEPS, "seconds")  # what a record tells of steps and of evaluations
OVERWRITTEN = "_overwrite_with_gradient"  # as flax calls it
Arguments = Mapping[str, Any]  # what the factories are called with, such as sizes
Arrays = Mapping[str, jax.Array]  # by path, such as Dense_0/kernel


class Held(NamedTuple):
    """Everything that a side's model holds, each array under its own path.

    state: what a step changes and no optimizer does; under OVERWRITTEN what a step replaces by its
    gradient. random: keys and counters that its own framework carries from step to step.
    """

    params: Arrays
    state: Arrays
    random: Arrays


class Ran(NamedTuple):
    """One forward pass: the loss, scalar metrics by name, and what the model holds after it.

    altered: what else the model itself changed, by path, such as a number that it counts in Python:
    no step carries it on.
    """

    loss: jax.Array
    metrics: Mapping[str, jax.Array]
    held: Held
    altered: frozenset[str] = frozenset()


class Side(Protocol):
    """A model as its author wrote it."""

    def init(self, arguments: Arguments, key: jax.Array, batch: Batch) -> Held:
        """A fresh model."""
        ...

    def run(self, arguments: Arguments, held: Held, batch: Batch, key: jax.Array) -> Ran:
        """One forward pass, called as the model's users call it."""
        ...

    def axes(self, arguments: Arguments, batch: Batch) -> Mapping[str, tuple[str | None, ...]]:
        """The names of axes that the model itself gives its parameters, of those that it does."""
        ...


class PairFault(ValueError):
    """Something of a user's own that cannot be called or understood; the message is one line."""


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.name == name or one.kind is one.VAR_KEYWORD for one in parameters)


def positional(function: Callable[..., Any]) -> int | None:
    """How many arguments a function takes by position; None: any number."""
    parameters = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)


def called(
    loss: Callable[..., Any], model: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """The loss and its metrics of a model, as a user's function gives them."""
    wants_key = positional(loss) in (None, 3)
    told = loss(model, batch, key) if wants_key else loss(model, batch)
    value, metrics = told if isinstance(told, tuple) and len(told) == 2 else (told, {})
    if not isinstance(metrics, Mapping):
        raise PairFault(
            f"loss returns a scalar and a {type(metrics).__name__}; must be metrics by name"
        )
    for name in metrics:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) or name in _TAKEN:
            raise PairFault(
                f"loss calls a metric {name!r}; must be of small letters, digits and _,"
                f" and none of {', '.join(_TAKEN)}"
            )
    for name, one in {"the loss": value, **metrics}.items():
        if getattr(one, "shape", None) != ():
            shape = f"{one.dtype}{list(one.shape)}" if hasattr(one, "shape") else type(one).__name__
            raise PairFault(f"loss makes {name} a {shape}; must be a scalar")
    if not jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
        raise PairFault(f"loss makes the loss a {value.dtype}; must be of floating point")
    return value, metrics


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by path; what holds a variable's value is not a part of it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {named(path): leaf for path, leaf in leaves}


def named(path: Iterable[Any]) -> str:
    """Such as layers/0/kernel."""
    kept = [part for part in path if not isinstance(part, jax.tree_util.GetAttrKey)]
    return jax.tree_util.keystr(tuple(kept), simple=True, separator="/")


def is_overwritten(path: str) -> bool:
    """Whether an array of a side's state is replaced by its gradient."""
    return path.startswith(f"{OVERWRITTEN}/")


def replaced(tree: Any, leaves: Arrays) -> Any:
    """The tree with other leaves, found by path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[named(path)], tree)
