"""Optimizers, one a file: its settings, its state, and the one update that it makes of gradients.

A file has `Settings`, the frozen dataclass of a case's `optim` section, and
`make(settings, learning_rate)`, the Optimizer. `optim.name` is the file's name, or a module's
anywhere. It is a room of its own, below the cases, whose settings these are.
"""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

__all__ = ["adamw", "load", "loss_scale", "names", "optimizer", "schedules"]

_NONE = ("loss_scale", "optimizer", "schedules")


def names() -> list[str]:
    """The optimizers that come with the project."""
    return sorted(one.name for one in pkgutil.iter_modules(__path__) if one.name not in _NONE)


def load(name: str) -> ModuleType:
    """The optimizer's file; raises ValueError with what is allowed for an unknown name."""
    module = f"{__name__}.{name}" if name in names() else name
    known = f"must be one of {', '.join(names())}, or a module with Settings and make"
    try:
        found = importlib.import_module(module)
    except ImportError:
        raise ValueError(f"name={name!r}: {known}") from None
    if not (hasattr(found, "Settings") and hasattr(found, "make")):
        raise ValueError(f"name={name!r}: {known}")
    return found
