"""Case files: which there are, and what stands in one."""

import difflib
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import safe

CASES = Path(__file__).parents[2] / "configs" / "cases"
_LARGEST = 2**20  # bytes of a case file
PAIR_CASE = "00_pair"  # stands in where a pair of a user's own comes without a case


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


def find(case: str) -> Path:
    """The file of a case by its name, or as it is given."""
    path = Path(case) if case.endswith((".yaml", ".yml")) else CASES / f"{case}.yaml"
    if not path.is_file():
        raise UserError(
            f"--case {case}: no such case{choices(case, case_names())}, or a .yaml file"
        )
    return path


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))
        for key, count in counts.items():
            if count > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep=deep)


def read(path: Path) -> dict[str, tuple[Any, str]]:
    """A file's settings by dotted key, each with where it was said."""
    try:
        text = inputs.content(path, _LARGEST).decode()
        document = yaml.load(text, _UniqueKeyLoader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # PyYAML raises what its own conversions do: dates, numbers, depth
        told = safe(" ".join(str(error).split()), 300)
        raise UserError(f"{path}: not readable as YAML: {told}") from None
    settings: dict[str, tuple[Any, str]] = {}
    for section, values in _mapping(document, f"{path}").items():
        for key, value in _mapping(values, f"{path}: {section}").items():
            settings[f"{section}.{key}"] = (value, str(path))
    return settings


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: must be a mapping of keys, not {safe(repr(value))}")
    return value


def choices(given: str, known: list[str]) -> str:
    """What is allowed in place of something that is not, the nearest first."""
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f" (nearest: {nearest[0]})" if nearest else ""
    return f"{hint}; known are {', '.join(known)}"
