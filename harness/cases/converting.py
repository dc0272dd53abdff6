"""A value of YAML, or the text of a command line, as the type that a setting is annotated with."""

import math
import types
import typing
from typing import Any, Literal

import yaml

from harness.errors import UserError


def convert(value: Any, allowed: Any, where: str) -> Any:
    """`value`, or what its text says, as the annotated type; UserError when it is none."""
    options = typing.get_args(allowed) if isinstance(allowed, types.UnionType) else (allowed,)
    for option in options:
        try:
            return _parse(value, option)
        except ValueError:
            continue
    raise UserError(f"{where}={value!r}: must be {' or '.join(map(_type_name, options))}")


def _parse(value: Any, option: Any) -> Any:
    if typing.get_origin(option) is Literal:
        if value in typing.get_args(option):
            return value
    elif option is types.NoneType:
        if value in (None, "null", "none", ""):
            return None
    elif option is bool:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
    elif option is int:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)
    elif option is float:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    elif typing.get_origin(option) is tuple:
        return _parse_list(value, option)
    elif isinstance(value, option):
        return value
    raise ValueError


def _parse_list(value: Any, option: Any) -> tuple[Any, ...]:
    """A list, or its text in YAML, as the tuple of a type `tuple[X, ...]` or `tuple[X, Y]`."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError from None
    parts = typing.get_args(option)
    if not isinstance(value, list | tuple):
        raise ValueError
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
    return tuple(_parse(one, part) for one, part in zip(value, parts, strict=True))


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(typing.get_args(option))
    if typing.get_origin(option) is tuple:
        inner, *others = typing.get_args(option)
        if others == [Ellipsis]:
            return f"a list, of each {_type_name(inner)}"
        return f"[{', '.join(map(_type_name, (inner, *others)))}]"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    return names.get(option, "null")
