"""A published configuration, line by line: what of it a case says, and why not the rest."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.cases import reading

ROOT = Path(__file__).parents[3]
MAPPING = yaml.safe_load((ROOT / "configs/documents/20_honeycrisp.yaml").read_text())
LINES = (ROOT / "tests/data/honeycrisp_config.txt").read_text().splitlines()
CASE = reading.flatten(reading.load("20_honeycrisp"))


def lines() -> Iterator[tuple[str, Any]]:
    for line in LINES:
        key, _, value = line.partition(": ")
        yield key, ast.literal_eval(value)


def setting(place: str) -> Any:
    """A setting of the case, or one place of a list: optim.update_scales[0][1]."""
    name, *indices = re.findall(r"[^\[\]]+", place)
    value = CASE[name]
    for index in indices:
        value = value[int(index)]
    return value


def place(key: str) -> str | None:
    """Where the case says what a line of the document does."""
    for start, name in MAPPING["lists"].items():
        if key.startswith(f"{start}["):
            return name + key.removeprefix(start)
    found: str | None = MAPPING["settings"].get(key)
    return found


def test_every_line_is_said_or_has_a_reason() -> None:
    assert len(LINES) == 289
    unsaid = []
    for key, value in lines():
        fixed = [row for row in MAPPING["fixed"] if re.fullmatch(row[0], key)]
        reasons = [row for row in MAPPING["not_applicable"] if re.fullmatch(row[0], key)]
        found = place(key)
        if found is not None:
            said = f"jax.numpy.{setting(found)}" if key.endswith("_dtype") else setting(found)
            assert said == value, key
        elif fixed:
            assert fixed[0][1] == value, key
        elif not reasons:
            unsaid.append(key)
    assert not unsaid


def test_no_entry_is_of_a_line_that_is_not_there() -> None:
    keys = [key for key, _ in lines()]
    assert set(MAPPING["settings"]) <= set(keys)
    for pattern, *_, reason in MAPPING["fixed"] + MAPPING["not_applicable"]:
        assert any(re.fullmatch(pattern, key) for key in keys), pattern
        assert len(reason) > 10


def test_the_lists_are_as_long_as_the_documents() -> None:
    keys = [key for key, _ in lines()]
    for start, name in MAPPING["lists"].items():
        assert len(CASE[name]) == sum(key.startswith(f"{start}[") for key in keys) / 2
    assert sum(re.fullmatch(r"mesh_rules\[\d\]\[0\]", key) is not None for key in keys) == 5
