"""Bars as SVG, of pieces with a name each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.pages.words import clean


@dataclass(frozen=True)
class Piece:
    """A part of a bar, from `start` to `start + length`; kind: its class in style.css."""

    kind: str
    start: float
    length: float
    words: str


@dataclass(frozen=True)
class Bar:
    """Pieces on one line; mark: a place to point out."""

    name: str
    pieces: Sequence[Piece]
    value: str = ""
    mark: Piece | None = None


def draw(
    title: str,
    rows: Sequence[Bar],
    kinds: Sequence[tuple[str, str]],
    ticks: Callable[[float], str] | None = None,
) -> Markup:
    """Bars on a common scale, each of pieces; kinds: class and name, for the legend."""
    ends = [piece.start + piece.length for bar in rows for piece in bar.pieces]
    ends += [bar.mark.start for bar in rows if bar.mark is not None]
    longest = max(ends, default=0.0)
    if longest <= 0:
        return Markup("")
    drawn = Markup("").join(
        Markup('<div class="bar"><span class="bar-name">{}</span><svg class="track" width="100%"'
               ' height="20" role="img" aria-label="{}">{}</svg>'
               '<span class="bar-value">{}</span></div>').format(
            clean(bar.name, 80),
            f"{clean(bar.name, 80)}: " + "; ".join(piece.words for piece in bar.pieces),
            Markup("").join(_piece(piece, longest) for piece in bar.pieces)
            + (_mark(bar.mark, longest) if bar.mark is not None else Markup("")),
            bar.value,
        )
        for bar in rows
    )  # fmt: skip
    used = {piece.kind for bar in rows for piece in bar.pieces}
    used |= {bar.mark.kind for bar in rows if bar.mark is not None}
    legend = Markup("").join(
        Markup('<li><svg class="swatch square" aria-hidden="true">'
               '<rect class="{}" width="100%" height="100%"/></svg>{}</li>').format(kind, name)
        for kind, name in kinds
        if kind in used
    )  # fmt: skip
    scale = Markup("")
    if ticks is not None:
        scale = Markup('<div class="bar scale" aria-hidden="true"><span></span><span class="ends">'
                       '<span>0</span><span>{}</span></span><span></span></div>').format(
            ticks(longest)
        )  # fmt: skip
    return Markup(
        '<figure class="bars"><figcaption>{}</figcaption>{}{}<ul class="legend">{}</ul></figure>'
    ).format(title, drawn, scale, legend)


def _piece(piece: Piece, longest: float) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.3f}%" width="{:.3f}%" height="100%"><title>{}</title></rect>'
    ).format(piece.kind, 100 * piece.start / longest, 100 * piece.length / longest, piece.words)


def _mark(mark: Piece, longest: float) -> Markup:
    place = f"{100 * mark.start / longest:.3f}%"
    return Markup(
        '<line class="{}" x1="{}" x2="{}" y1="0" y2="100%"><title>{}</title></line>'
    ).format(mark.kind, place, place, mark.words)
