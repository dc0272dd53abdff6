"""Cases read from YAML, at a size, by a recipe, with overrides; and flattened to sorted lines."""

import dataclasses
import functools
import hashlib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness import optimizers
from harness.cases import converting, families
from harness.cases.settings import (
    CHOICES,
    Case,
    Checkpoint,
    Data,
    Parallel,
    Run,
    is_free,
    later_default,
)
from harness.errors import UserError
from harness.text import nearest

CASES = Path(__file__).parents[2] / "configs" / "cases"
TINY_SEQUENCE_LENGTH = 64
PAIR_CASE = "00_pair"  # stands in where a pair of a user's own comes without a case
_TWINS = "twins"  # the key of a flattened case that has no section
_Settings = Mapping[str, tuple[Any, str]]  # by dotted key, each with where it was said
# How the step is set up; the mathematics is the same. reference: as in the published runs, whose
# backward pass computes all of a layer again. fast: keeps it, the layers are no loop, the state
# lies in memory as the step wants it, weights are gathered beside the computation, and int8
# operands are rounded once instead of once for each product. Of other twins, what they know of it.
RECIPES: dict[str, dict[str, Any]] = {
    "reference": {},
    "fast": {
        "model.remat": "none",
        "model.unroll": True,
        "model.use_fwd_quant": True,
        "run.state_layout": "compiler",
        "run.overlap_collectives": True,
    },
}


def case_names() -> list[str]:
    """The names of the cases that come with the project; not of that for pairs of others."""
    return sorted(path.stem for path in CASES.glob("*.yaml") if path.stem != PAIR_CASE)


def given(case: str | None, twins: str | None) -> str:
    """The case that a command is told of; UserError where one is missing."""
    if case is not None:
        return case
    if twins is None:
        raise UserError(f"--case is missing; known are {', '.join(case_names())}")
    return PAIR_CASE


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
    path = _find(case)
    last = _overrides(overrides)
    said = _read(path)
    if twins is not None:  # of another model: what this one lacks, `imposed` says
        fields = _fields(_sections(Case.family, Case.optimizer, twins))
        said = {key: one for key, one in said.items() if not _is_model(key) or key in fields}
    chosen = _chosen(said | last, twins)
    sections = _sections(*chosen, twins)
    if size == "tiny":
        tiny = families.load(twins, chosen[0]).sizes.get(size, {})
        said["data.sequence_length"] = (TINY_SEQUENCE_LENGTH, "--size tiny")
        said |= {
            key if "." in key else f"model.{key}": (value, "--size tiny")
            for key, value in tiny.items()
        }
    known = _fields(sections)
    said |= {
        key: (value, f"--recipe {recipe}") for key, value in RECIPES[recipe].items() if key in known
    }
    return _build(path.stem, said | last, twins)


def imposed(case: str, twins: str | None) -> list[str]:
    """What a case sets of a user's model, or cannot, unasked: a line for each setting."""
    if twins is None:
        return []
    known = _fields(_sections(Case.family, Case.optimizer, twins))
    own = families.load(twins).config()
    lines = []
    for key, (value, _) in _read(_find(case)).items():
        if not _is_model(key) or key in CHOICES:
            continue
        if key not in known:
            lines.append(
                f"{key}={converting.line(value)} of case {case} is not taken: no such setting"
            )
        elif value != (usual := getattr(own, known[key][1].name)):
            lines.append(
                f"{key} is {converting.line(value)} by case {case},"
                f" by itself it is {converting.line(usual)}"
            )
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
    sections = _sections(case.family, case.optimizer, case.twins)
    hints = {section: typing.get_type_hints(cls) for section, cls in sections.items()}
    settings = {key: getattr(case, field) for key, field in CHOICES.items()}
    settings |= {
        key: converting.text(
            getattr(getattr(case, section), field.name), hints[section][field.name]
        )
        for key, (section, field) in _fields(sections).items()
    }
    told = {key: value for key, value in sorted(settings.items()) if value != later_default(key)}
    return told if case.twins is None else told | {_TWINS: case.twins}


def flat_text(case: Case) -> str:
    """`flatten` as lines of `path: value`."""
    return "".join(f"{key}: {converting.line(value)}\n" for key, value in flatten(case).items())


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
    settings = {key: value for key, value in flatten(case).items() if not is_free(key)}
    if case.data.tokens is not None:
        settings["data.tokens"] = _file_sha256(case.data.tokens)
    lines = [f"{key}: {converting.line(value)}" for key, value in settings.items()]
    return hashlib.sha256(
        "\n".join([*lines, f"size: {size}", f"recipe: {recipe}"]).encode()
    ).hexdigest()


def _find(case: str) -> Path:
    path = Path(case) if case.endswith((".yaml", ".yml")) else CASES / f"{case}.yaml"
    if not path.is_file():
        raise UserError(
            f"--case {case}: no such case{_choices(case, case_names())}, or a .yaml file"
        )
    return path


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep=deep)


def _read(path: Path) -> dict[str, tuple[Any, str]]:
    """A file's settings by dotted key, each with where it was said."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    settings: dict[str, tuple[Any, str]] = {}
    for section, values in _mapping(document, f"{path}").items():
        for key, value in _mapping(values, f"{path}: {section}").items():
            settings[f"{section}.{key}"] = (value, str(path))
    return settings


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: must be a mapping of keys, not {value!r}")
    return value


def _chosen(settings: _Settings, twins: str | None) -> tuple[str, str]:
    """The family and the optimizer that the settings name; UserError for one that is not there."""
    family, where = settings.get("model.family", (Case.family, ""))
    optimizer, said = settings.get("optim.name", (Case.optimizer, ""))
    if where and twins is not None:
        raise UserError(f"{where}: model.family={family}: not with --twins {twins}")
    if family not in families.names():
        raise UserError(
            f"{where}: model.family={family!r}: must be one of {', '.join(families.names())};"
            " a module of your own goes by --twins"
        )
    try:
        optimizers.load(str(optimizer))
    except ValueError as error:
        raise UserError(f"{said}: optim.{error}") from None
    return family, optimizer


def _sections(family: str, optimizer: str, twins: str | None) -> dict[str, type[Any]]:
    """The dataclass of each section of a case."""
    pair = families.load(twins, family)
    return {
        "checkpoint": Checkpoint,
        "data": Data,
        "model": pair.config,
        "optim": optimizers.load(optimizer).Settings,
        "parallel": _parallel(pair.mesh_axes),
        "run": Run,
    }


@functools.cache
def _parallel(own: tuple[str, ...]) -> type[Parallel]:
    """The mesh axes of every family, and those of one family alone."""
    if not own:
        return Parallel
    fields: list[tuple[str, Any, Any]] = [(axis, int, 1) for axis in own]
    return dataclasses.make_dataclass("Parallel", fields, bases=(Parallel,), frozen=True)


def _fields(
    sections: Mapping[str, type[Any]],
) -> dict[str, tuple[str, dataclasses.Field[Any]]]:
    """Every setting by its dotted key: its section and its field."""
    return {
        f"{section}.{_key(field.name)}": (section, field)
        for section, cls in sections.items()
        for field in dataclasses.fields(cls)
    }


def _build(name: str, settings: _Settings, twins: str | None) -> Case:
    family, optimizer = _chosen(settings, twins)
    sections = _sections(family, optimizer, twins)
    known = _fields(sections)
    values: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for key, (value, where) in settings.items():
        if key in CHOICES:
            continue
        if key not in known:
            raise UserError(f"{where}: {key}: no such key{_choices(key, [*known, *CHOICES])}")
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


def _choices(given: str, known: list[str]) -> str:
    return f"{nearest(given, known)}; known are {', '.join(known)}"


def _key(field_name: str) -> str:
    return field_name.rstrip("_")  # "async" is a keyword of Python


def _file_sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"data.tokens={path}: {error.strerror}") from None
