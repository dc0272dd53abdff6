"""The operations of an NNX module named by its path, as Linen names those of its modules."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jax
from flax import nnx

_Path = tuple[str, ...]


@contextmanager
def named(model: nnx.Module) -> Iterator[None]:
    """While it lasts, what a module of the model computes when it is called is in its scope."""
    modules = {tuple(map(str, path)): module for path, module in nnx.iter_modules(model)}
    paths = {id(module): path for path, module in modules.items()}
    own: dict[Any, Any] = {
        cls: vars(cls)["__call__"]
        for module in modules.values()
        for cls in type(module).__mro__
        if issubclass(cls, nnx.Module) and "__call__" in vars(cls)
    }
    within: list[_Path] = [()]
    try:
        for cls, call in own.items():
            cls.__call__ = _scoped(call, paths, within)
        yield
    finally:
        for cls, call in own.items():
            cls.__call__ = call


def _scoped(call: Any, paths: dict[int, _Path], within: list[_Path]) -> Any:
    """The method, in the scope of whose module it is."""

    @functools.wraps(call)
    def called(module: nnx.Module, *arguments: Any, **named: Any) -> Any:
        outer, path = within[-1], paths.get(id(module), within[-1])
        inner = path[len(outer) :] if path[: len(outer)] == outer else path
        within.append(path)
        try:
            with jax.named_scope("/".join(inner)) if inner else nullcontext():
                return call.__get__(module, type(module))(*arguments, **named)
        finally:
            within.pop()

    # Its line is nobody's: an operation is that of the line which calls the module.
    scoped: Any = called
    scoped.__code__ = scoped.__code__.replace(co_filename="<scope>")
    return scoped
