"""Published configurations, line by line: what of one a case says, and why not the rest."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cases import reading

ROOT = Path(__file__).parents[3]
# Case -> the lines of its document, and how many there are.
DOCUMENTS = {
    "20_honeycrisp": ("honeycrisp_config.txt", 289),
    "30_pipeline": ("megatron_arguments.txt", 465),
}
TYPE = re.compile(r"(?:jax\.numpy|torch)\.(float\d+|bfloat16)")


class Document:
    """The lines of a document and what configs/documents says of them."""

    def __init__(self, name: str) -> None:
        self.case = reading.flatten(reading.load(name))
        self.mapping = yaml.safe_load((ROOT / f"configs/documents/{name}.yaml").read_text())
        file, self.length = DOCUMENTS[name]
        self.lines = dict(_lines((ROOT / "tests/data" / file).read_text()))

    def setting(self, place: str) -> Any:
        """A setting of the case, or one place of a list: optim.update_scales[0][1]."""
        name, *indices = re.findall(r"[^\[\]]+", place)
        value = self.case[name]
        for index in indices:
            value = value[int(index)]
        return value

    def place(self, key: str) -> str | None:
        """Where the case says what a line of the document does."""
        for start, name in self.mapping.get("lists", {}).items():
            if key.startswith(f"{start}["):
                return name + key.removeprefix(start)
        found: str | None = self.mapping["settings"].get(key)
        return found


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        try:
            yield key, ast.literal_eval(value)
        except (SyntaxError, ValueError):  # a word
            yield key, value


@pytest.fixture(scope="module", params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Document:
    return Document(request.param)


def test_every_line_is_said_or_has_a_reason(document: Document) -> None:
    assert len(document.lines) == document.length
    unsaid = []
    for key, value in document.lines.items():
        fixed = [row for row in document.mapping["fixed"] if re.fullmatch(row[0], key)]
        reasons = [row for row in document.mapping["not_applicable"] if re.fullmatch(row[0], key)]
        found = document.place(key)
        if found is not None:
            named = TYPE.fullmatch(str(value))
            assert document.setting(found) == (named[1] if named else value), key
        elif fixed:
            allowed = fixed[0][1] if isinstance(fixed[0][1], list) else [fixed[0][1]]
            assert value in allowed, key
        elif not reasons:
            unsaid.append(key)
    assert not unsaid


def test_no_entry_is_of_a_line_that_is_not_there(document: Document) -> None:
    assert set(document.mapping["settings"]) <= set(document.lines)
    for pattern, *_, reason in document.mapping["fixed"] + document.mapping["not_applicable"]:
        assert any(re.fullmatch(pattern, key) for key in document.lines), pattern
        assert len(reason) >= 10


def test_the_lists_are_as_long_as_the_documents() -> None:
    document = Document("20_honeycrisp")
    keys = document.lines
    for start, name in document.mapping["lists"].items():
        assert len(document.case[name]) == sum(key.startswith(f"{start}[") for key in keys) / 2
    assert sum(re.fullmatch(r"mesh_rules\[\d\]\[0\]", key) is not None for key in keys) == 5
