"""A document as it was found: its text, once it is text, and what all kinds read it with.

Only what a kind looks for by name and form is taken over into a record. Nothing else is copied, so
that no name, path or address in a document can reach one.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import record as record_module
from harness.records.record import Record
from harness.text import aligned

LARGEST_BYTES = 64 * 2**20
NUMBER = r"([+-]?(?:[0-9]{1,15}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?|nan|inf))(?![\w.])"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOREIGN_TO_NAMES = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Document:
    """A text with its name, of which nothing but letters, digits, '.', '_' and '-' is kept."""

    name: str
    sha256: str
    text: str


@dataclass(frozen=True)
class Imported:
    """What one document gave: its records, and what the checks of it found, as lines to print."""

    kind: str
    records: Sequence[Record]
    findings: Sequence[str] = ()


def load(path: str) -> Document:
    """Reads a document; raises UserError when it is missing, too large or no text."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: {reason}; give a log, a page's text or a configuration") from None
    return parse(path, content)


def parse(path: str, content: bytes) -> Document:
    """The document that `content` is; raises UserError when it is too large or no text."""
    if len(content) > LARGEST_BYTES:
        raise UserError(f"{path}: larger than {LARGEST_BYTES:,} bytes, more than any log or page")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text: byte {error.start:,} is not UTF-8") from None
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        character = ord(control[0])
        raise UserError(f"{path}: not text: line {line:,} holds control character {character}")
    if not text.strip():
        raise UserError(f"{path}: empty")
    name = _FOREIGN_TO_NAMES.sub("_", Path(path).name)[:100]
    return Document(name, hashlib.sha256(content).hexdigest(), text)


def number(text: str) -> float | None:
    """The number that NUMBER matched, None when it is not finite."""
    value = float(text)
    return value if math.isfinite(value) else None


def first(pattern: re.Pattern[str], text: str) -> str | None:
    """The first group of the first match."""
    match = pattern.search(text)
    return match[1] if match else None


def blank(document: Document, run_id: str, kind: str, **source: Any) -> Record:
    """A record that knows only where it comes from."""
    record = record_module.blank(run_id, "imported")
    record["source"] = {
        "kind": kind,
        "document": document.name,
        "document_sha256": document.sha256,
        **source,
    }
    return record


def figure(
    name: str, rule: str, published: float | None, recomputed: float | None
) -> dict[str, Any]:
    """What a document says of a quantity beside what its own data give."""
    return {"figure": name, "rule": rule, "published": published, "recomputed": recomputed}


def facing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Lines of a table: each setting of a document that we have too, beside ours."""
    rows = [("setting", "ours", "theirs", "")]
    for key, value in theirs.items():
        verdict = "equal" if ours[key] == value else "different"
        rows.append((key, _shown(ours[key]), _shown(value), verdict))
    return aligned(rows)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
