"""Tells whether two implementations of one model are the same: trained, measured, compared."""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_HERE = Path(__file__).resolve().parent


class _OwnModels:
    """Finds the `models` that came with this package."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(_HERE.parent)]) if name == "models" else None


# Python looks first in the folder that a command is started in, where many have a `models`, and
# some a `harness`, of their own. What commands import from here on is the project's.
__path__ = [str(_HERE)]
sys.meta_path.insert(0, _OwnModels)
