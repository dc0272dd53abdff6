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

from harness.published import arrival, prefixes
from harness.published.arrival import LARGEST_BYTES, Line
from harness.records import record as record_module
from harness.records.record import Record
from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import aligned

ANY_NUMBER = r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?|nan|inf)(?![\w.])"
NUMBER = f"({ANY_NUMBER})"
# How the file of TensorBoard events begins: the length of a record, its sum, and the version.
_EVENTS = re.compile(rb"[\s\S]{12,40}brain\.Event:[0-9]")
_BEYOND_MEASUREMENT = 1e100
_FOREIGN_TO_NAMES = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Document:
    """A text with its name, of which nothing but letters, digits, '.', '_' and '-' is kept.

    text: without what the text was wrapped in; lines: the same, where they name machines; events:
    the content of a file that is not text but TensorBoard's; notes: what a reader must know of how
    it arrived.
    """

    name: str
    sha256: str
    text: str
    lines: Sequence[Line] = ()
    events: bytes = b""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Imported:
    """What one document gave: its records, and what the checks of it found, as lines to print."""

    kind: str
    records: Sequence[Record]
    findings: Sequence[str] = ()


def load(path: str) -> Document:
    """Reads a document; raises UserError when it is missing, no file, too large or no text."""
    try:
        content = inputs.content(path, LARGEST_BYTES)
    except OSError as error:
        told = f"{path}: {error.strerror}; give a log, a page's text or a configuration"
        raise UserError(told) from None
    return parse(path, content)


def parse(path: str, content: bytes) -> Document:
    """The document that `content` is; raises UserError when it is too large or no text."""
    name = _FOREIGN_TO_NAMES.sub("_", Path(path).name)[:100]
    digest = hashlib.sha256(content).hexdigest()
    content, notes = arrival.unpack(path, content[: LARGEST_BYTES + 1])
    if len(content) > LARGEST_BYTES:
        raise UserError(f"{path}: larger than {LARGEST_BYTES:,} bytes, more than any log or page")
    if _EVENTS.match(content):
        return Document(name, digest, "", events=content, notes=notes)
    text, foreign = arrival.decode(path, content)
    if not text.strip():
        raise UserError(f"{path}: empty")
    lines = prefixes.strip(arrival.lines(text))
    text = "\n".join(line.text for line in lines)
    named = lines if any(line.host for line in lines) else ()
    return Document(name, digest, text, named, notes=[*notes, *foreign])


def number(text: str) -> float | None:
    """The number that NUMBER matched, None when it is not finite."""
    value = float(text)
    return value if math.isfinite(value) else None


def amount(value: float | None) -> float | None:
    """A time or another amount; None for what was damaged into none that can be."""
    return value if value is not None and 0 <= value < _BEYOND_MEASUREMENT else None


def in_bytes(value: float | None, unit: int) -> int | None:
    """A size that was printed in units of so many bytes; None for what no machine has."""
    return round(value * unit) if value is not None and 0 <= value < 1e12 else None


def half_unit(text: str) -> float:
    """Half a unit of the last digit that NUMBER matched: how far the exact value may be."""
    mantissa, _, exponent = text.lower().partition("e")
    return float(f"5e{int(exponent or 0) - len(mantissa.partition('.')[2]) - 1}")


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
    record["warnings"] += document.notes
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
