"""Excerpts of published documents, trimmed, with all names in them replaced."""

from pathlib import Path

from harness import published
from harness.published.document import Document, Imported, parse

DATA = Path(__file__).parents[1] / "data"
NAMES = (
    "axlearn_config.txt",
    "maxview_03_dropout.txt",
    "maxview_04_int8.txt",
    "maxview_08_checkpoint_async_true.txt",
    "megatron_log.txt",
)


def content(name: str) -> bytes:
    return (DATA / name).read_bytes()


def document(name: str, *changes: tuple[str, str]) -> Document:
    """An excerpt in which each text of `changes` has been replaced, wherever it stands."""
    text = content(name).decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(name, text.encode())


def read(name: str, *changes: tuple[str, str]) -> Imported:
    return published.read(document(name, *changes))
