"""Which kind of side a user's model is."""

from collections.abc import Callable
from typing import Any

import flax.linen
from flax import nnx

from models.pairing import meshes
from models.pairing.linen_side import LinenSide
from models.pairing.nnx_side import NnxSide
from models.pairing.plain_side import PlainSide
from models.pairing.sides import Arguments, PairFault, Side, takes


def fault(name: str, model: Any) -> str | None:
    """Why a model can be no side of a pair, None when it can."""
    if isinstance(model, nnx.Module):
        return "is an nnx.Module that is made already; give what makes it, lambda rngs: ..."
    if isinstance(model, type) and issubclass(model, flax.linen.Module):
        return f"is the class {model.__name__}; give a module, {model.__name__}(...)"
    if name == "linen" and not isinstance(model, flax.linen.Module) and _is_of_rngs(model):
        return "takes rngs, as what makes an nnx.Module does; must be a linen.Module"
    if name == "nnx" and isinstance(model, flax.linen.Module):
        return "is a linen.Module; must be what makes an nnx.Module, lambda rngs: ..."
    if isinstance(model, flax.linen.Module) or callable(model):
        return None
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return None
    return (
        f"is a {type(model).__name__}; must be a linen.Module, what makes an nnx.Module of rngs,"
        " or (init, apply)"
    )


def side(
    name: str,
    model: Any,
    loss: Callable[..., Any],
    streams: tuple[str, ...],
    mesh: meshes.Make | None = None,
) -> Side:
    """The side that a model is; what makes it is given its mesh, where there is one, by name."""

    def given(arguments: Arguments) -> Arguments:
        own = {} if mesh is None else {"mesh": meshes.current(mesh, arguments)}
        return {**arguments, **own}

    if isinstance(model, tuple):
        return PlainSide(model[0], model[1], loss)
    if isinstance(model, flax.linen.Module):
        return LinenSide(lambda arguments: _cloned(model, arguments), loss, streams)
    if name == "nnx" or _is_of_rngs(model):
        return NnxSide(lambda arguments, rngs: _made(model, given(arguments), rngs), loss)
    return LinenSide(
        lambda arguments: _linen(model(**_taken(model, given(arguments)))), loss, streams
    )


def _is_of_rngs(model: Any) -> bool:
    return callable(model) and takes(model, "rngs")


def _cloned(model: flax.linen.Module, arguments: Arguments) -> flax.linen.Module:
    fields = type(model).__dataclass_fields__
    own = {name: value for name, value in arguments.items() if name in fields}
    return model.clone(**own) if own else model


def _linen(made: Any) -> flax.linen.Module:
    if not isinstance(made, flax.linen.Module):
        raise PairFault(f"makes a {type(made).__name__}; must make a linen.Module")
    return made


def _made(model: Callable[..., Any], arguments: Arguments, rngs: nnx.Rngs) -> Any:
    taken = _taken(model, arguments)
    return model(rngs=rngs, **taken) if takes(model, "rngs") else model(rngs, **taken)


def _taken(model: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if takes(model, name)}
