"""A verdict as a small image, for a pull request or a page of one's own."""

from html import escape

from harness.comparing.answer import of_runs
from harness.comparing.model import Comparison, Outcome

_COLOURS: dict[Outcome, str] = {
    "same": "#2e7d32",
    "better": "#2e7d32",
    "different": "#b45309",
    "worse": "#b3261e",
    "unclear": "#57606a",
    "unknown": "#57606a",
}
_LETTER, _MARGIN = 6.6, 8  # pixels of a letter of 11 pixels, about; the text is fitted into them


def badge(found: Comparison) -> str:
    """The names of the two, and what was found, as SVG of one line."""
    left = f"{found.names[1]} and {found.names[0]}"
    answer = of_runs(found)
    a, b = (round(_LETTER * len(text)) + 2 * _MARGIN for text in (left, answer.words))
    colour = _COLOURS[answer.outcome]
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img">
<title>{escape(f"{left}: {answer.words}")}</title>
<rect width="{a + b}" height="20" rx="3" fill="#3d444d"/>
<path d="M{a} 0h{b - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1 -3 3h-{b - 3}z" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
{_text(left, a / 2, a)}
{_text(answer.words, a + b / 2, b)}
</g>
</svg>
"""


def _text(text: str, middle: float, width: int) -> str:
    fitted = f'textLength="{width - 2 * _MARGIN}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{middle:g}" y="14" {fitted}>{escape(text)}</text>'
