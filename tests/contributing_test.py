"""CONTRIBUTING names files and folders that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_file_that_is_named_is_there() -> None:
    table = [line for line in TEXT.splitlines() if line.startswith("| ")][1:]
    opened = [re.findall(r"`([^`]+)`", row.split("|")[2]) for row in table]
    assert len(table) >= 20
    assert all(opened)
    named = re.findall(r"`([\w./-]+\.(?:py|json|md))`", TEXT)
    for path in {*named, *(one for row in opened for one in row)}:
        assert (ROOT / path).exists(), path
