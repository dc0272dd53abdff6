"""Tables of parameters: a nested dict whose leaves say an array's shape and logical axes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.shared.partitioning import Axes


class Parameter(NamedTuple):
    """One array: its whole shape and one logical name for each axis."""

    shape: tuple[int, ...]
    axes: Axes


def axes_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with each parameter's logical axes in its place."""
    return {
        name: entry.axes if isinstance(entry, Parameter) else axes_of(entry)
        for name, entry in table.items()
    }
