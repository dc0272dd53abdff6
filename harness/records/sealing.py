"""JSON and text that carry their own checksum: whatever changes in a file later is seen."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

SEAL = "sha256"
_MOST_DIGITS = 19
_MANY_DIGITS = re.compile(rf"\d{{{_MOST_DIGITS + 1}}}")


class Broken(Exception):
    """Content that is not what was written; the message says how that shows."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON keeps it, with a checksum of the rest under `sha256`."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    return {**plain, SEAL: checksum(plain)}


def opened(content: object) -> dict[str, Any]:
    """The content without its seal; raises Broken where the seal is gone or another's."""
    if not isinstance(content, dict) or SEAL not in content:
        raise Broken("has no checksum")
    rest = {key: value for key, value in content.items() if key != SEAL}
    if content[SEAL] != checksum(rest):
        raise Broken("has changed since it was written")
    return rest


def checksum(content: Mapping[str, Any]) -> str:
    """The sha256 of what JSON keeps of the content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed_text(text: str) -> str:
    """Lines with one more, the checksum of those before it."""
    return f"{text}{SEAL}: {hashlib.sha256(text.encode()).hexdigest()}\n"


def opened_text(content: bytes) -> str:
    """The lines without their seal; raises Broken where the seal is gone or another's."""
    text, seal, _ = content.decode(errors="replace").rpartition(f"{SEAL}: ")
    if not seal:
        raise Broken("has no checksum")
    if sealed_text(text).encode() != content:
        raise Broken("has changed since it was written")
    return text


def parse(text: str | bytes) -> Any:
    """What a JSON text says.

    ValueError also for a key given twice, a number without end, and an integer too large to count
    anything, with which nothing can be computed.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    # To ask of each number takes four times as long.
    integers = _integer if _MANY_DIGITS.search(text) else None
    found = json.loads(text, parse_constant=_refuse, parse_int=integers, object_pairs_hook=_unique)
    json.dumps(found, allow_nan=False)  # of 1e999
    return found


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits counts nothing")
    return int(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a finite number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:50]!r} is given twice")
    return found
