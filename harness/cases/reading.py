"""Cases read from YAML, at a size, by a recipe, with overrides; and flattened to sorted lines."""

import dataclasses
import functools
import hashlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from harness import optimizers
from harness.cases import converting, families
from harness.cases.case_files import CASES as CASES
from harness.cases.case_files import PAIR_CASE as PAIR_CASE
from harness.cases.case_files import case_names as case_names
from harness.cases.case_files import choices as choices
from harness.cases.case_files import find
from harness.cases.case_files import given as given
from harness.cases.case_files import read as read
from harness.cases.case_files import shown as shown
from harness.cases.settings import (
    CHOICES,
    Case,
    Checkpoint,
    Data,
    Eval,
    Parallel,
    Pipeline,
    Run,
    is_free,
    later_default,
)
from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import safe

TINY_SEQUENCE_LENGTH = 64
_TWINS = "twins"  # the key of a flattened case that has no section
_Settings = Mapping[str, tuple[Any, str]]  # by dotted key, each with where it was said
# How the step is set up; the mathematics is the same. reference: as in the published runs, whose
# backward pass computes all of a layer again. fast: keeps it, lets weights come beside the
# computation, takes the device's own attention kernel, and rounds int8 operands once. experimental:
# fast, and what only a chip can judge. Of other twins, what they know of it.
RECIPES: dict[str, dict[str, Any]] = {
    "reference": {},
    "fast": {
        "model.attention": "auto",
        "model.remat": "none",
        "model.unroll": True,
        "model.use_fwd_quant": True,
        "run.state_layout": "compiler",
        "run.overlap_collectives": True,
    },
}
RECIPES["experimental"] = {**RECIPES["fast"], "run.offload_collectives": True}


def load(
    case: str,
    size: str = "full",
    overrides: Iterable[str] = (),
    recipe: str = "reference",
    twins: str | None = None,
) -> Case:
    """Reads a case by name or by path, at a size and by a recipe; `section.key=value` come last.

    `twins` is the module whose ModelConfig the case is of, None for the project's own.

    Raises UserError for an unknown case, size or key, a value of the wrong type, and a constraint
    that does not hold.
    """
    path = find(case)
    last = _overrides(overrides)
    said = read(path)
    if twins is not None:  # of another model: what this one lacks, `imposed` says
        fields = fields_of(sections_of(Case.family, Case.optimizer, twins))
        said = {key: one for key, one in said.items() if not _is_model(key) or key in fields}
    chosen = _chosen(said | last, twins)
    sections = sections_of(*chosen, twins)
    if size != "full":
        sizes = families.load(twins, chosen[0]).sizes
        if size == "awkward" and size not in sizes:
            raise UserError(
                f"--size {size}: the pair gives no sizes for it; known are full and tiny"
            )
        said["data.sequence_length"] = (TINY_SEQUENCE_LENGTH, f"--size {size}")
        said |= {
            key if "." in key else f"model.{key}": (value, f"--size {size}")
            for key, value in sizes.get(size, {}).items()
        }
    said |= {
        key: (value, f"--recipe {recipe}")
        for key, value in RECIPES[recipe].items()
        if _takes(sections, key, value)
    }
    return _build(path.stem, said | last, twins)


def imposed(case: str, twins: str | None) -> list[str]:
    """What a case sets of a user's model, or cannot, unasked: a line for each setting."""
    if twins is None:
        return []
    known = fields_of(sections_of(Case.family, Case.optimizer, twins))
    own = families.load(twins).config()
    lines = []
    for key, (value, _) in read(find(case)).items():
        if not _is_model(key) or key in CHOICES:
            continue
        if key not in known:
            lines.append(
                f"{key}={converting.line(value)} of case {case} is not taken: no such setting"
            )
        elif value != (usual := getattr(own, known[key][1].name)):
            told, own_ = converting.line(value), converting.line(usual)
            lines.append(f"{key} is {told} by case {case}, by itself it is {own_}")
    return lines


def _is_model(key: str) -> bool:
    return key.startswith("model.")


def _overrides(overrides: Iterable[str]) -> dict[str, tuple[Any, str]]:
    settings: dict[str, tuple[Any, str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: must be of the form section.key=value")
        settings[key.strip()] = (text.strip(), "--set")
    return settings


def from_flat(name: str, settings: Mapping[str, Any], overrides: Iterable[str] = ()) -> Case:
    """The case that `flatten` was of, with overrides; raises as `load` does."""
    known = {key: (value, name) for key, value in settings.items() if key != _TWINS}
    return _build(name, known | _overrides(overrides), settings.get(_TWINS))


def flatten(case: Case) -> dict[str, Any]:
    """Every setting by its dotted key, sorted; last the twins, unless they are the project's.

    One that came later than records is left out at its default.
    """
    sections = sections_of(case.family, case.optimizer, case.twins)
    hints = {section: typing.get_type_hints(cls) for section, cls in sections.items()}
    settings = {key: getattr(case, field) for key, field in CHOICES.items()}
    settings |= {
        key: converting.text(
            getattr(getattr(case, section), field.name), hints[section][field.name]
        )
        for key, (section, field) in fields_of(sections).items()
    }
    told = {key: value for key, value in sorted(settings.items()) if value != later_default(key)}
    return told if case.twins is None else told | {_TWINS: case.twins}


def flat_text(case: Case) -> str:
    """`flatten` as lines of `path: value`."""
    return lines(flatten(case))


def lines(config: Mapping[str, Any]) -> str:
    """A flattened case as lines of `path: value`."""
    return "".join(f"{key}: {converting.line(value)}\n" for key, value in config.items())


def described(case: Case, size: str, recipe: str) -> dict[str, Any]:
    """The record's `case`."""
    return {
        "name": case.name,
        "hash": case_hash(case, size, recipe),
        "config": flatten(case),
    }


def case_hash(case: Case, size: str, recipe: str) -> str:
    """What makes two runs the same experiment, as sha256.

    Left out: the implementation, what `is_free`, and where things lie (the tokens of a file count
    by their content).
    """
    config = flatten(case)
    if case.data.tokens is not None:
        config["data.tokens"] = _file_sha256(case.data.tokens)
    return config_hash(config, size, recipe)


def config_hash(config: Mapping[str, Any], size: str, recipe: str) -> str:
    """`case_hash` of a flattened case, which holds the sha256 of its tokens where it has a file."""
    own = {key: value for key, value in config.items() if not is_free(key)}
    text = f"{lines(own)}size: {size}\nrecipe: {recipe}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _chosen(settings: _Settings, twins: str | None) -> tuple[str, str]:
    """The family and the optimizer that the settings name; UserError for one that is not there."""
    family, where = settings.get("model.family", (Case.family, ""))
    optimizer, said = settings.get("optim.name", (Case.optimizer, ""))
    if where and twins is not None:
        raise UserError(f"{where}: model.family={family}: not with --twins {twins}")
    if family not in families.names():
        raise UserError(
            f"{where}: model.family={family!r}: must be one of {', '.join(families.names())};"
            " --twins takes a module of your own"
        )
    try:
        optimizers.load(str(optimizer))
    except ValueError as error:
        raise UserError(f"{said}: optim.{error}") from None
    return family, optimizer


def sections_of(family: str, optimizer: str, twins: str | None) -> dict[str, type[Any]]:
    """The dataclass of each section of a case."""
    pair = families.load(twins, family)
    return {
        "checkpoint": Checkpoint,
        "data": Data,
        "eval": Eval,
        "model": pair.config,
        "optim": optimizers.load(optimizer).Settings,
        "parallel": _parallel(pair.mesh_axes),
        "pipeline": Pipeline,
        "run": Run,
    }


@functools.cache
def _parallel(own: tuple[str, ...]) -> type[Parallel]:
    """The mesh axes of every family, and those of one family alone."""
    if not own:
        return Parallel
    fields: list[tuple[str, Any, Any]] = [(axis, int, 1) for axis in own]
    return dataclasses.make_dataclass("Parallel", fields, bases=(Parallel,), frozen=True)


def fields_of(
    sections: Mapping[str, type[Any]],
) -> dict[str, tuple[str, dataclasses.Field[Any]]]:
    """Every setting by its dotted key: its section and its field."""
    return {
        f"{section}.{_key(field.name)}": (section, field)
        for section, cls in sections.items()
        for field in dataclasses.fields(cls)
    }


def _takes(sections: Mapping[str, type[Any]], key: str, value: Any) -> bool:
    """Whether there is such a setting, and one of its choices is this."""
    section, field = fields_of(sections).get(key, (None, None))
    if section is None or field is None:
        return False
    allowed = typing.get_type_hints(sections[section])[field.name]
    return value in typing.get_args(allowed) or allowed is type(value) is bool


def _build(name: str, settings: _Settings, twins: str | None) -> Case:
    family, optimizer = _chosen(settings, twins)
    sections = sections_of(family, optimizer, twins)
    known = fields_of(sections)
    values: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for key, (value, where) in settings.items():
        if key in CHOICES:
            continue
        if key not in known:
            hint = choices(key, [*known, *CHOICES])
            raise UserError(f"{where}: {safe(key)}: no such key{hint}")
        section, field = known[key]
        allowed = typing.get_type_hints(sections[section])[field.name]
        values[section][field.name] = converting.convert(
            value,
            allowed,
            f"{where}: {key}",
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
        )
    built = {}
    for section, cls in sections.items():
        try:
            built[section] = cls(**values[section])
        except ValueError as error:
            field_name = _key(str(error).partition("=")[0])
            where = settings.get(f"{section}.{field_name}", (None, name))[1]
            raise UserError(f"{where}: {section}.{error}") from None
    return Case(name, **built, family=family, optimizer=optimizer, twins=twins)


def _key(field_name: str) -> str:
    return field_name.rstrip("_")  # "async" is a keyword of Python


def _file_sha256(path: str) -> str:
    try:
        inputs.require_file(path, path)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"data.tokens={path}: {error.strerror}") from None
    except ValueError:
        raise UserError("data.tokens: a file's name cannot hold a byte 0") from None
