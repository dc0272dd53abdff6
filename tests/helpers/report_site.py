"""A report made of made-up and published records, and its pages taken apart."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from compared_records import Record, in_turns, make, write

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "reference" / "published"
PREFLIGHT = ROOT / "results" / "reference" / "preflight"


class Page(HTMLParser):
    """The elements of a page: `elements` in order, `scripts` and `styles` with their content."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.styles: list[str] = []
        self.figures: list[float] = []  # of <data value=...>
        self._open = ""
        self._words: list[str] = []
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", "".join(self._words))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.elements.append((tag, found))
        self._open = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append((found.get("type"), ""))
        if tag == "data":
            self.figures.append(float(found["value"]))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self._open = ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        self._words += [" "] if tag in ("th", "td", "span", "h3") else []

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._open == "style":
            self.styles.append(data)
        else:
            self._words.append(data)

    def links(self) -> list[str]:
        return [found["href"] for tag, found in self.elements if tag == "a"]

    def ids(self) -> list[str]:
        return [found["id"] for _, found in self.elements if "id" in found]


def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def run(run_id: str, impl: str, hour: int = 0, **changes: Any) -> Record:
    made = make(impl=impl, run_id=run_id, **changes)
    made["environment"]["time"] = f"2026-11-03T{hour:02d}:22:33+00:00"
    return made


def twins_in_turns() -> tuple[Record, Record]:
    """Linen and NNX, which takes a fifth longer."""
    a, b = in_turns(1.2, names=("a-linen", "a-nnx"))
    for hour, made in enumerate((a, b), 1):
        made["environment"]["time"] = f"2026-11-03T{hour:02d}:22:33+00:00"
    return a, b


def write_results(results: Path) -> None:
    """Both twins of a case, NNX slower in turns; a failed run; a case's name that is markup."""
    for made in twins_in_turns():
        write(results, made)
    failed = run("a-failed", "nnx", 3) | {"status": "failed", "error": "the loss was not finite"}
    failed["steps"] = failed["steps"][:2]
    del failed["checkpoint"]["saves"][1:]
    failed["timing"]["step_seconds"] = dict.fromkeys(failed["timing"]["step_seconds"])
    write(results, failed)
    only = run("only-linen", "linen", 4)
    only["case"]["name"] = "99_made_up"
    write(results, only)
