"""A value of YAML, or the text of a command line, as the type that a setting is annotated with."""

import ast
import json
import math
import re
import types
import typing
from typing import Any, Literal

import yaml

from harness.terminal.errors import UserError
from harness.terminal.text import safe

_PLAIN = (bool, int, float, str)


def convert(value: Any, allowed: Any, where: str, default: Any) -> Any:
    """`value`, or what its text says, as the annotated type; UserError for any other.

    What is no number and no text, such as a type or a tuple, is written as `text` writes it.
    """
    options = _options(allowed)
    if not all(map(_is_plain, options)):
        return _other(value, default, where)
    for option in options:
        try:
            return _parse(value, option)
        except ValueError:
            continue
    raise UserError(f"{where}={safe(repr(value))}: must be {described(allowed)}")


def described(allowed: Any, limit: str = "") -> str:
    """An annotated type in words, `limit` behind each number; "" for what is no number or text."""
    options = _options(allowed)
    if not all(map(_is_plain, options)):
        return ""
    names = [_type_name(one) + (limit if one in (int, float) else "") for one in options]
    return " or ".join(names)


def text(value: Any, allowed: Any = None) -> Any:
    """A setting as records keep it: what is no number and no text as a text that tells it.

    Rows, tuples in a tuple by its annotated type, are lists in a list.
    """
    if _is_rows(allowed):
        return [list(row) for row in value]
    if value is None or isinstance(value, _PLAIN):
        return value
    kind = _data_type(value)
    if kind is not None:
        return kind
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def line(value: Any) -> str:
    """A setting as records keep it, as YAML writes it on a line."""
    if value is None or isinstance(value, bool | list):
        return json.dumps(value)
    return str(value)


def _options(allowed: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type that alone."""
    union = typing.get_origin(allowed) in (typing.Union, types.UnionType)
    return typing.get_args(allowed) if union else (allowed,)


def _is_plain(option: Any) -> bool:
    known = option in (*_PLAIN, types.NoneType) or typing.get_origin(option) is Literal
    return known or _is_rows(option)


def _is_rows(option: Any) -> bool:
    """Whether a type is such as tuple[tuple[str, float], ...]."""
    kinds = typing.get_args(option) if typing.get_origin(option) is tuple else ()
    return bool(kinds) and typing.get_origin(kinds[0]) is tuple and kinds[1:] == (Ellipsis,)


def _other(value: Any, default: Any, where: str) -> Any:
    """A setting of another kind: as it is, as its text says, or as long as it stays what it was."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if value == text(default):
        return default
    if _data_type(default) is not None and _data_type(value) is not None:
        import numpy as np

        return type(default)(value) if isinstance(default, np.dtype) else np.dtype(value).type
    if isinstance(default, tuple | list):
        try:
            return type(default)(ast.literal_eval(value))
        except (ValueError, SyntaxError, TypeError):
            pass
    told = safe(repr(value))
    raise UserError(f"{where}={told}: must be {text(default)!r}, or set in the module")


def _data_type(value: Any) -> str | None:
    """The name of an array's data type, such as bfloat16; None of anything else."""
    import numpy as np  # which is half of the time that it takes to refuse another setting

    try:
        kind = np.dtype(value) if value is not None else np.dtype(object)
    except TypeError:
        return None
    return None if kind == np.dtype(object) else kind.name


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
    elif _is_rows(option):
        return _parse_rows(value, typing.get_args(typing.get_args(option)[0]))
    elif isinstance(value, option):
        return value
    raise ValueError


def _parse_rows(value: Any, kinds: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    """A list of lists, or its text in YAML, as rows of these types."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError from None
    if not isinstance(value, list | tuple) or not all(
        isinstance(row, list | tuple) for row in value
    ):
        raise ValueError
    return tuple(
        tuple(_parse(one, kind) for one, kind in zip(row, kinds, strict=True)) for row in value
    )


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(typing.get_args(option))
    if _is_rows(option):
        kinds = map(_type_name, typing.get_args(typing.get_args(option)[0]))
        return f"a list, of each [{', '.join(kinds)}]"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    return names.get(option, "null")
