"""A layer of an AXLearn configuration, with the sizes that the layer around it gives it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.published.axlearn_lines import Group, Value, join
from harness.terminal.errors import UserError

_LARGEST = 10**9


class Uncountable(Exception):
    """What a configuration does not tell, or tells in a way not known here; the message says so."""


@dataclass(frozen=True)
class Layer:
    """A group of settings that stands for a layer.

    `given` are sizes that AXLearn sets when it builds the layer; `plain` is the class that is
    taken where the text names none; `times` says how many of it there are.
    """

    path: str
    settings: Group
    given: Mapping[str, int]
    plain: str | None = None
    times: int = 1

    @property
    def told_class(self) -> str | None:
        """The class that the text names, None where it names none: of AXLearn's, the last part."""
        if "klass" not in self.settings:
            return None
        name = self.settings["klass"]
        if not isinstance(name, str):
            raise UserError(f"{join(self.path, 'klass')}: must be the name of a class")
        return name.rpartition(".")[2] if name.startswith("axlearn.") else name

    def value(self, name: str) -> Value | Group:
        """A setting as it stands, None where it is not told."""
        return self.settings.get(name)

    def is_on(self, name: str) -> bool:
        """Whether a setting is True; raises UserError unless it is that, False or not told."""
        value = self.settings.get(name)
        if value is not None and type(value) is not bool:
            raise UserError(f"{join(self.path, name)}={value!r}: must be True or False")
        return value is True

    def has(self, name: str) -> bool:
        """Whether there is a group of this name."""
        return isinstance(self.settings.get(name), dict)

    def size(self, name: str, otherwise: int | None = None) -> int:
        """A size: given, told, or computed from the input's by the function that the text names.

        Raises UserError for a value that is no number, Uncountable where no value is told.
        """
        if name in self.given:
            return self.given[name]
        value = self.settings.get(name)
        if isinstance(value, dict):
            return self._computed(join(self.path, name), value)
        if value is None:
            if otherwise is None:
                raise Uncountable(f"{join(self.path, name)} is not told")
            return otherwise
        if type(value) is not int or not 1 <= value < _LARGEST:
            raise UserError(f"{join(self.path, name)}={value!r}: must be a positive number")
        return value

    def child(
        self, name: str, plain: str | None = None, *, times: int = 1, **given: int
    ) -> "Layer":
        """The layer of this name within this one."""
        group = self.settings.get(name)
        inner = group if isinstance(group, dict) else {}
        return Layer(join(self.path, name), inner, given, plain, times)

    def elements(self, name: str) -> Iterator[str]:
        """The names of what a list or a table holds: `name` without index, each in brackets."""
        group = self.settings.get(name)
        if isinstance(group, dict):
            yield from (part for part in group if part.startswith("["))

    def _computed(self, path: str, function: Group) -> int:
        name, scale = function.get("fn"), function.get("scale")
        known = isinstance(name, str) and name.rpartition(".")[2] == "scale_fn"
        if not known or not isinstance(scale, int | float):
            raise Uncountable(f"{path} is computed by a function that is not known here")
        multiple = function.get("round_up_to_multiples_of", 0)
        if not 0 < scale < _LARGEST or type(multiple) is not int or not 0 <= multiple < _LARGEST:
            raise UserError(f"{path}: scale and round_up_to_multiples_of must be positive numbers")
        exact = self.size("input_dim") * scale
        return math.ceil(exact / multiple) * multiple if multiple else round(exact)
