"""The family that a command is about: a folder of models/, or the module of `--twins`."""

import dataclasses
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import models
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from harness.terminal.text import nearest
from models import seam
from models.seam import Family, SeamError

P = ParamSpec("P")
T = TypeVar("T")

_OWN = ("harness", "models")
_NO_FAMILIES = ("examples", "pairing", "shared")


def names() -> list[str]:
    """The families that come with the project."""
    folders = (one.name for one in pkgutil.iter_modules(models.__path__) if one.ispkg)
    return sorted(name for name in folders if name not in _NO_FAMILIES)


@cache
def load(twins: str | None, family: str = Case.family) -> Family:
    """The module `twins` or, without one, the family called so.

    Raises UserError with a line for each thing that a module lacks to be one.
    """
    if twins is None:
        return seam.load(f"{models.__name__}.{family}", check=False)
    package, _, rest = twins.partition(".")
    if package in _OWN and not _is_there(twins):
        raise UserError(
            f"--twins {twins}: {package!r} is the project's own package, which has no {rest!r};"
            " one of yours needs another name"
        )
    _require_module(twins)
    with _told():
        found = seam.load(twins)
    return dataclasses.replace(
        found,
        get=_telling(found.get),
        evaluated=_telling(found.evaluated),
        mesh=None if found.mesh is None else _telling(found.mesh),
        matched=None if found.matched is None else _telling(found.matched),
        renamed=None if found.renamed is None else _telling(found.renamed),
    )


def _require_module(twins: str) -> None:
    """Raises UserError for the name of a file, or one that is near a module of this folder."""
    if twins.endswith(".py") or "/" in twins:
        module = twins.removesuffix(".py").strip("./").replace("/", ".")
        raise UserError(f"--twins {twins}: must be a module's name, without .py: {module}")
    hint = nearest(twins, (path.stem for path in Path().glob("*.py")), likeness=0.6)
    if hint and twins.isidentifier() and not _is_there(twins):
        raise UserError(
            f"--twins {twins}: is not there: neither in this folder nor installed{hint}"
        )


@contextmanager
def _told() -> Iterator[None]:
    """Tells a user what a module of theirs lacks, a line for each thing."""
    try:
        yield
    except SeamError as error:
        raise UserError(*(f"--twins {fault}" for fault in error.faults)) from None


def _telling(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose SeamError is a UserError."""

    def told(*arguments: P.args, **named: P.kwargs) -> T:
        with _told():
            return function(*arguments, **named)

    return told


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it would lie in
        return False


def of(case: Case) -> Family:
    """The family of a case."""
    return load(case.twins, case.family)


def chosen(family: Family, impl: str) -> tuple[str, ...]:
    """The implementations that `--impl` asks for."""
    if impl == "both":
        return family.names
    require(family, "--impl", impl, "both")
    return (impl,)


def require(family: Family, option: str, name: str | None, *others: str) -> None:
    """Raises UserError where an option names none of a family's implementations, nor another."""
    known = (*family.names, *others)
    if name is not None and name not in known:
        told = ", ".join(map(repr, known))
        raise UserError(f"argument {option}: invalid choice: {name!r} (choose from {told})")
