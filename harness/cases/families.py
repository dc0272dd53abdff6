"""The pair of models that a command is about: the project's own, or the module of `--twins`."""

from functools import cache

import models
from harness.errors import UserError
from models.seam import SeamError, Twins


@cache
def load(name: str | None) -> Twins:
    """The pair; UserError with a line for each thing that a module lacks to be one."""
    try:
        return models.load(name)
    except SeamError as error:
        raise UserError("\nerror: ".join(f"--twins {fault}" for fault in error.faults)) from None


def chosen(twins: Twins, impl: str) -> tuple[str, ...]:
    """The implementations that `--impl` asks for."""
    if impl == "both":
        return twins.names
    if impl not in twins.names:
        known = ", ".join(map(repr, (*twins.names, "both")))
        raise UserError(f"argument --impl: invalid choice: {impl!r} (choose from {known})")
    return (impl,)
