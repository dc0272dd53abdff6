"""How a document arrives: compressed, in other encodings, coloured, or wrapped in JSON."""

import codecs
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.terminal.errors import UserError

LARGEST_BYTES = 64 * 2**20
_GZIP = b"\x1f\x8b"
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT = 4096  # bytes that tell UTF-16 without its mark
_MOST_FOREIGN_BYTES = 0.001  # of all: more is another encoding, or no text
_COLOURS = re.compile(
    r"\x1b(?:\[[0-?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)|[@-Z\\^_])"
)
_PROGRESS = re.compile(r"[0-9]%\|")
_HARMLESS_CONTROLS = re.compile(r"[\x07\x08\x0c]")  # bell, backspace, page
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Where loggers put the message, the name of the machine and the time of an entry.
_MESSAGES = ("textPayload", "message", "log", "msg", "line")
_HOSTS = (("resource", "labels", "pod_name"), ("kubernetes", "pod_name"), ("host",), ("hostname",))
_TIMES = ("timestamp", "time", "ts")


@dataclass(frozen=True)
class Line:
    """A line without its end, and the machine that wrote it, where that is told."""

    text: str
    host: str = ""


def unpack(path: str, content: bytes) -> tuple[bytes, list[str]]:
    """The content of a .gz file, else `content` itself; with what a reader must know of it."""
    if not content.startswith(_GZIP):
        return content, []
    unpacked, rest, notes = b"", content, []
    while rest.startswith(_GZIP):
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            unpacked += stream.decompress(rest, LARGEST_BYTES + 1 - len(unpacked))
        except zlib.error:
            raise UserError(f"{path}: a damaged .gz file; give it unpacked") from None
        if len(unpacked) > LARGEST_BYTES:
            break
        if not stream.eof:
            notes.append("the .gz file is cut short: what it still holds is read")
            break
        rest = stream.unused_data
    return unpacked, notes


def decode(path: str, content: bytes) -> tuple[str, list[str]]:
    """The text, with line feeds for line ends and without colours; raises UserError for no text."""
    mark, encoding = next(
        ((mark, name) for mark, name in _ENCODINGS if content.startswith(mark)),
        (b"", _guessed(content)),
    )
    content = content[len(mark) :]
    notes = []
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        text = content.decode(encoding, errors="replace")
        foreign = text.count("\N{REPLACEMENT CHARACTER}")
        cut = error.end == len(content)
        if not cut and foreign > len(content) * _MOST_FOREIGN_BYTES:
            raise UserError(f"{path}: not text: byte {error.start:,} is not UTF-8") from None
        if cut:
            text = text.removesuffix("\N{REPLACEMENT CHARACTER}")
        else:
            notes.append(f"places that are not UTF-8, read as unknown letters: {foreign:,}")
    text = _line_feeds(text)
    text = _HARMLESS_CONTROLS.sub("", _COLOURS.sub("", text))
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        character = ord(control[0])
        raise UserError(f"{path}: not text: line {line:,} holds control character {character}")
    return text, notes


def _line_feeds(text: str) -> str:
    """The text with one kind of line end, without progress bars that were drawn over at once."""
    text = text.replace("\r\n", "\n")
    if "\r" not in text:
        return text
    kept = []
    for line in text.split("\n"):
        *drawn_over, last = line.split("\r")
        kept += [part for part in drawn_over if not _PROGRESS.search(part)] + [last]
    return "\n".join(kept)


def lines(text: str) -> list[Line]:
    """The lines of a text, out of the JSON that a logging service or a notebook wraps them in."""
    wrapped = _whole_json(text)
    if wrapped is not None:
        return wrapped
    plain = text.split("\n")
    entries = [_parsed(line) if line.startswith("{") else None for line in plain]
    messages = [None if entry is None else _message(entry) for entry in entries]
    if 2 * sum(message is not None for message in messages) < sum(map(bool, plain)):
        return [Line(line) for line in plain]
    unwrapped = [
        _entry_lines(entry, message) if entry is not None and message is not None else [Line(line)]
        for line, entry, message in zip(plain, entries, messages, strict=True)
    ]
    if _newest_first([entry for entry in entries if entry is not None]):
        unwrapped.reverse()
    return [line for several in unwrapped for line in several] + [Line("")]


def _guessed(content: bytes) -> str:
    """The encoding of a text without a mark: every other byte of UTF-16 is zero in such logs."""
    begin = content[:_LOOKED_AT]
    for name, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        if len(begin) >= 8 and begin[place::2].count(0) > 0.9 * (len(begin) // 2):
            return name
    return "utf-8"


def _whole_json(text: str) -> list[Line] | None:
    """The lines of a text that is one list of entries, or one notebook."""
    begin = text.lstrip()[:1]
    if begin not in ("[", "{"):
        return None
    whole = _parsed(text)
    if isinstance(whole, dict):
        cells = whole.get("cells")
        return _notebook_lines(cells) if isinstance(cells, list) else None
    if not isinstance(whole, list) or not all(isinstance(entry, dict) for entry in whole):
        return None
    messages = [_message(entry) for entry in whole]
    if not any(message is not None for message in messages):
        return None
    unwrapped = [
        _entry_lines(entry, message)
        for entry, message in zip(whole, messages, strict=True)
        if message is not None
    ]
    if _newest_first(whole):
        unwrapped.reverse()
    return [line for several in unwrapped for line in several] + [Line("")]


def _notebook_lines(cells: Sequence[Any]) -> list[Line]:
    """What the cells of a notebook printed."""
    found = []
    for cell in cells:
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        for output in outputs if isinstance(outputs, list) else []:
            printed = output.get("text") if isinstance(output, dict) else None
            if isinstance(printed, list):
                printed = "".join(part for part in printed if isinstance(part, str))
            if isinstance(printed, str):
                found += [Line(line) for line in printed.split("\n")]
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(entry: dict[str, Any]) -> str | None:
    """The message of a log entry, None where it has none."""
    payload = entry.get("jsonPayload")
    for source in (entry, payload if isinstance(payload, dict) else {}):
        for key in _MESSAGES:
            if isinstance(source.get(key), str):
                return str(source[key])
    return None


def _entry_lines(entry: dict[str, Any], message: str) -> list[Line]:
    host = ""
    for path in _HOSTS:
        value: Any = entry
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            host = value
            break
    message = message.replace("\r\n", "\n").replace("\r", "\n")
    message = _CONTROL.sub("", _COLOURS.sub("", message))
    return [Line(line, host) for line in message.removesuffix("\n").split("\n")]


def _newest_first(entries: Sequence[dict[str, Any]]) -> bool:
    """Whether the times of the entries run backwards, as services list them."""
    times = [time for time in map(_time, entries) if time is not None]
    return len(times) > 1 and times[0] > times[-1]


def _time(entry: dict[str, Any]) -> float | None:
    for key in _TIMES:
        value = entry.get(key)
        try:
            if isinstance(value, str):
                return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    return None
