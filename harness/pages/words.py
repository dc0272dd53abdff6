"""Values as a page shows them; whatever comes from a record is text, never markup."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from harness.records import figures
from harness.terminal.text import size, times, wire

MISSING = "\u2013"
_LONGEST = 2000  # letters of one text
_UNITS = (  # name, seconds, from how many seconds on
    ("h", 3600.0, 3600.0),
    ("min", 60.0, 300.0),
    ("s", 1.0, 1.0),
    ("ms", 1e-3, 1e-3),
    ("µs", 1e-6, 0.0),
)
_BYTES = tuple((name, size, size) for name, size in
               (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)))  # fmt: skip
_NAMES = {
    "mfu": "MFU",
    "tflop": "TFLOP",
    "tflops": "TFLOP/s",
    "jax": "JAX",
    "jaxlib": "jaxlib",
    "xla": "XLA",
    "hlo": "HLO",
    "temp": "temporaries",
    "sha256": "SHA-256",
    "stablehlo": "StableHLO",
    "git": "Git",
    "python": "Python",
}
_HASH = re.compile("[0-9a-f]{40,}")


def clean(text: str, longest: int = _LONGEST) -> str:
    """A text without control, direction or half characters, shortened where it is endless."""
    shown = text if len(text) <= longest else f"{text[:longest]} ... ({len(text):,} letters)"
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in shown)


def file_name(identity: str) -> str:
    """A name for a page that is safe in every path, and another one for every identity."""
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", identity[:200]).strip("-")[:80] or "x"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}-{digest[:8]}.html"


def number(value: Any) -> float | None:
    """A number as a float; None for null, and for what is no number in a free part of a record."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return figures.number(value)


def seconds(value: float) -> str:
    """A time in the unit that suits it: 71.3 ms, 4.277 s, 2.9 min."""
    if value == 0:
        return "0 s"
    smallest = _UNITS[-1]
    unit, scale = next((one for one in _UNITS if value >= one[2]), smallest)[:2]
    return f"{value / scale:.4g} {unit}"


def scale(largest: float, unit: str) -> tuple[str, float]:
    """The unit that suits numbers up to `largest`, and how much it is; unit: s, bytes or none."""
    known = {"s": _UNITS, "bytes": _BYTES}.get(unit, ())
    return next(((name, one) for name, one, least in known if largest >= least), (unit, 1.0))


def alike(values: Sequence[float], unit: str) -> list[str]:
    """Evenly spaced numbers in one unit, with digits enough that no two read the same."""
    largest = max(map(abs, values))
    name, one = scale(largest, unit)
    scaled = [value / one for value in values]
    for digits in range(18):
        texts = [f"{value:,.{digits}f}" for value in scaled]
        if not 1e-4 <= largest / one < 1e7 and largest:
            texts = [f"{value:.{digits + 1}g}" for value in scaled]
        read = [float(text.replace(",", "")) for text in texts]
        gaps = [b - a for a, b in itertools.pairwise(read)]
        if len(set(texts)) == len(values) and _even(gaps):
            break
    return [f"{text} {name}".rstrip() for text in texts]


def _even(gaps: Sequence[float]) -> bool:
    """Whether rounding left the gaps as they are to a twentieth."""
    return not gaps or max(gaps) - min(gaps) <= 0.05 * max(map(abs, gaps))


def plain(value: float) -> str:
    """A number without a unit: counts whole, the rest with four digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def exact(value: float) -> str:
    """A float32 with all its digits."""
    return f"{value:.9g}"


def percent(value: float) -> str:
    """A percentage of a whole."""
    return f"{value:.3g} %"


def figure(form: Callable[[float], str]) -> Callable[[Any], Markup]:
    """Turns a form into a filter: a <data> element that carries the exact value as well."""

    def show(value: Any) -> Markup:
        known = number(value)
        if known is None:
            return Markup('<span class="missing">{}</span>').format(MISSING)
        return Markup('<data value="{}">{}</data>').format(repr(known), form(known))

    return show


def unit(key: str) -> Callable[[Any], Markup]:
    """The filter for a key of the record, whose name ends with its unit."""
    for ending, form in (
        ("_wire_bytes", wire),
        ("_bytes_per_second", lambda value: f"{size(value)}/s"),
        ("_seconds", seconds),
        ("_bytes", size),
        ("_percent", percent),
    ):
        if f"_{key}".endswith(ending):
            return figure(form)
    return figure(plain)


def value(key: str, content: Any) -> Markup:
    """Any value of a record, in the unit that its key names."""
    if content is None:
        return Markup('<span class="missing">not known</span>')
    if isinstance(content, bool):
        return Markup("yes" if content else "no")
    if isinstance(content, int | float):
        return unit(key)(content)
    text = content if isinstance(content, str) else json.dumps(content)
    if _HASH.fullmatch(text):
        return Markup('<code title="{}">{}</code>').format(text, text[:12])
    return escape(clean(text) or "''")


def name_of(key: str) -> str:
    """A key of the record in words, without the unit that its value shows."""
    for ending in ("_seconds", "_bytes", "_percent"):
        key = key.removesuffix(ending)
    return " ".join(_NAMES.get(word, word) for word in key.split("_"))


def label(content: Any) -> str:
    """A setting's value in plain text, for lists of differences."""
    text = content if isinstance(content, str) else json.dumps(content)
    return f"{text[:12]}" if _HASH.fullmatch(text) else clean(text, 200)


def unbroken(text: str) -> Markup:
    """A sentence whose percent signs stay with their numbers."""
    return Markup(str(escape(clean(text))).replace(" %", "&nbsp;%"))


def signed(value: float) -> str:
    """A difference, with its sign and all the digits it was given."""
    return f"{value:+.6g}"


def as_is(value: float) -> str:
    """A figure of a document, with the digits it has there."""
    return f"{value:,.10g}"


def flop(value: float) -> str:
    """Of 10^12 operations, in the unit that suits them."""
    for unit, scale in (("TFLOP", 1.0), ("GFLOP", 1e-3), ("MFLOP", 1e-6)):
        if value >= scale:
            return f"{value / scale:.4g} {unit}"
    return f"{value / 1e-9:.4g} kFLOP"


def millions(value: float) -> str:
    """A count in millions, which the heading says."""
    return f"{value / 1e6:,.2f}"


FILTERS = {
    "unbroken": unbroken,
    "asis": figure(as_is),
    "signed": figure(signed),
    "flop": figure(flop),
    "millions": figure(millions),
    "ratio": figure(times),
    "seconds": figure(seconds),
    "size": figure(size),
    "wire": figure(wire),
    "plain": figure(plain),
    "exact": figure(exact),
    "percent": figure(percent),
}
