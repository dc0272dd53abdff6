"""Tables, figures, lists and errors as plain text, as every command prints them."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

GIB = 2**30


def aligned(
    rows: Sequence[Sequence[str]], right: Literal["none", "rest", "numbers"] = "none"
) -> list[str]:
    """The lines of a table; `right` says which cells stand at the right end of their column.

    rest: all but the first column's; numbers: those that begin with a digit.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def padded(column: int, cell: str) -> str:
        is_right = column > 0 if right == "rest" else right == "numbers" and cell[:1].isdigit()
        return cell.rjust(widths[column]) if is_right else cell.ljust(widths[column])

    return ["  ".join(padded(*cell) for cell in enumerate(row)).rstrip() for row in rows]


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GiB", GIB), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= scale:
            return f"{count / scale:.3f} {unit}"
    return f"{count:.0f} bytes"


def wire(count: float) -> str:
    """Bytes on a wire, always in the unit of link rates: 5.927 GB."""
    return f"{count / 1e9:.3f} GB" if not 0 < count < 1e6 else f"{count / 1e9:.2g} GB"


def gib(count: float) -> str:
    """Bytes in GiB, which a heading or what follows says."""
    return f"{count / GIB:.3f}"


def percent(ratio: float) -> str:
    """A ratio as what it adds: 1.05 is +5.0 %; from twice on, as it is: 2.1 x."""
    if not 0.5 < ratio < 2:
        return f"{ratio:.3g} x"
    change = 100 * (ratio - 1)
    return f"{change:+.2f} %" if abs(change) < 1 else f"{change:+.1f} %"


def duration(seconds: float) -> str:
    """Such as 8 s, 2 min 5 s, 1 h 2 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def times(ratio: float) -> str:
    """How many times as much, as a plain number."""
    return f"{ratio:.3f}" if 0.1 <= ratio < 1000 else f"{ratio:.3g}"


def counted(count: int, noun: str) -> str:
    """Such as 1 step, or 1,024 steps."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shortlist(names: Sequence[str], most: int = 3) -> str:
    """The first few names in one line, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def clauses(sentence: str) -> list[str]:
    """The parts between its semicolons; what is in brackets is not parted."""
    return re.split(r"; (?![^()]*\))", sentence)


def broken(sentence: str, most: int) -> list[str]:
    """The lines of a sentence that is broken after semicolons, where it is longer than `most`."""
    lines: list[str] = []
    for part in clauses(sentence):
        if lines and len(f"{lines[-1]}; {part}") <= most:
            lines[-1] += f"; {part}"
        else:
            lines.append(part)
    return [f"{line};" for line in lines[:-1]] + lines[-1:]


def capped(entries: Sequence[str], most: int) -> list[str]:
    """The first few entries, their lines indented and safe, and how many more there are."""
    more = len(entries) - most
    shown = [f"  {safe(line, 400)}" for entry in entries[:most] for line in entry.split("\n")]
    return [*shown, f"  and {more} more"] if more > 0 else shown


def safe(text: str, longest: int = 100) -> str:
    """A foreign text on one line, without control characters, and not too long."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def one_line(error: BaseException) -> str:
    """An error's kind and first words, without the pages that storage libraries add."""
    text = " ".join(str(error).partition(" [tensorstore_spec")[0].split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def nearest(given: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """Such as " (nearest: model.dtype)" for an unknown name; empty where nothing is near.

    likeness: from 0, anything is near, to 1, only the name itself.
    """
    found = difflib.get_close_matches(given, [*known], n=1, cutoff=likeness)
    return f" (nearest: {found[0]})" if found else ""
