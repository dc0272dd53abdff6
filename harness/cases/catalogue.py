"""Every setting of a case with its meaning, its default and what is allowed.

Nothing is listed here: meanings are the texts below the fields of the dataclasses, and limits are
what these answer to a number that is too small.
"""

import ast
import contextlib
import inspect
import itertools
import typing
from typing import Any, NamedTuple

from harness import optimizers
from harness.cases import converting, families, reading
from harness.cases.settings import CHOICES, Case

_TOO_SMALL = -2  # for every number that has a limit; -1 may mean the rest


class Setting(NamedTuple):
    """One key of a case: all texts."""

    key: str
    default: str
    allowed: str
    meaning: str


class Section(NamedTuple):
    """A dataclass of settings: `title` is its part of a case, and whose it is where several are."""

    title: str
    meaning: str
    settings: list[Setting]


def catalogue(twins: str | None) -> list[Section]:
    """All sections: with every model and optimizer that comes along, or the model of `twins`."""
    found = reading.sections_of(Case.family, Case.optimizer, twins)
    model = found.pop("model")
    if twins is None:
        choices = [_choice("model.family", families.names())]
        found |= {f"model, {name}": families.load(None, name).config for name in families.names()}
    else:
        choices = []
        found[f"model, {twins}"] = model
    del found["optim"]
    choices.append(_choice("optim.name", optimizers.names()))
    found |= {f"optim, {name}": optimizers.load(name).Settings for name in optimizers.names()}
    return sorted([*choices, *(_section(title, cls) for title, cls in found.items())])


def _choice(key: str, names: list[str]) -> Section:
    """The key that says of which dataclass a section is, as a section of its own."""
    field, title = CHOICES[key], key.partition(".")[0]
    setting = Setting(
        key, getattr(Case, field), f"one of {', '.join(names)}", _meanings(Case)[field]
    )
    return Section(
        title, "Which one it is; the other settings of the section depend on it.", [setting]
    )


def _section(title: str, cls: type[Any]) -> Section:
    name = title.partition(", ")[0]
    usual, types, meanings = cls(), typing.get_type_hints(cls), _meanings(cls)
    settings = [
        Setting(
            key,
            converting.line(converting.text(getattr(usual, field.name), types[field.name])),
            converting.described(types[field.name], _limit(cls, field.name)),
            meanings.get(field.name, ""),
        )
        for key, (_, field) in reading.fields_of({name: cls}).items()
    ]
    told = (inspect.getdoc(cls) or "").partition("\n")[0]
    own = "" if told.startswith(f"{cls.__name__}(") else told  # else dataclasses made it up
    return Section(title, own, settings)


def _limit(cls: type[Any], name: str) -> str:
    """What a dataclass says of a number that is too small, such as " (at least 1)"."""
    try:
        cls(**{name: _TOO_SMALL})
    except ValueError as error:
        words = str(error).partition(": must ")[2]
        return f" ({words.removeprefix('be ').removeprefix('lie ')})"
    except TypeError:  # of a text
        pass
    return ""


def _meanings(cls: type[Any]) -> dict[str, str]:
    """The text below each field of a dataclass, where its source is there to be read."""
    found = {}
    for one in reversed(cls.__mro__):
        with contextlib.suppress(OSError, TypeError):
            tree = ast.parse(inspect.cleandoc(inspect.getsource(one)))
            for field, below in itertools.pairwise(getattr(tree.body[0], "body", ())):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        found[name] = " ".join(text.split())
    return found
