"""Turns templates and values into pages that ask no network for anything."""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.comparing.model import MARKS
from harness.pages import words
from harness.records import figures
from harness.terminal.text import clauses

_HERE = Path(__file__).parent
_MARKS = MARKS | {"unknown": words.MISSING}


def render(
    template: str, page: str, has_charts: bool = False, alone: bool = False, **values: Any
) -> str:
    """Renders a page that will lie at `page`, a path in the report; one that is `alone` in none."""
    return (
        _environment()
        .get_template(template)
        .render(
            page=page, root="../" * page.count("/"), alone=alone, **_assets(has_charts), **values
        )
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    environment.globals |= {
        "clauses": clauses,
        "marks": _MARKS,
        "value": words.value,
        "name_of": words.name_of,
        "label": words.label,
        "step_seconds": figures.step_seconds,
        "last_loss": figures.last_loss,
    }
    return environment


def _shown(value: Any) -> Any:
    """No text of a record reaches a page with control characters, or without an end."""
    return words.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _assets(has_charts: bool) -> dict[str, Any]:
    """Styles and scripts to be inlined, and the policy that lets these run and nothing else."""
    scripts = [_static("theme.js")]
    style = _static("style.css")
    if has_charts:
        style = _static("uPlot.min.css") + style
        scripts += [_static("uPlot.iife.min.js"), _static("charts.js")]
    allowed = " ".join(map(_source, scripts))
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {allowed}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    return {
        "policy": policy,
        "style": Markup(style),
        "theme_script": Markup(scripts[0]),
        "scripts": [Markup(script) for script in scripts[1:]],
    }


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _static(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")
