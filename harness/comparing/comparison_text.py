"""A comparison for readers: a terminal, a pull request, programs, a chart of benchmarks."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from harness.comparing.answer import of_runs
from harness.comparing.comparability import Difference
from harness.comparing.model import MARKS, Comparison, Row
from harness.records.record import Record, case_name
from harness.terminal.text import aligned, broken, capped, percent, safe, shortlist, size, times

_SHOWN = 12  # lines of a list
_BROAD = 105  # letters of a line of a verdict, beside its area
_VERDICT = 4000  # letters: a verdict is bounded by its parts, this bounds records of others


def terminal(found: Comparison) -> str:
    """Everything in plain text: the runs, what differs around them, the table, the verdicts."""
    lines = [_title(found)]
    lines += [f"{name}: {_runs(side)}" for name, side in zip("AB", (found.a, found.b), strict=True)]
    lines += [] if found.comparable else _not_comparable(found)
    lines += _differences(found)
    lines += ["", *aligned([_headings(found), *(_cells(found, row) for row in found.rows)], "rest")]
    lines += [f"{row.name}: {row.note}" for row in found.rows if row.note]
    lines += [""]
    if found.programs.operations:
        told = [str(one) for one in found.programs.operations]
        lines += ["operations that differ, A -> B:", *capped(told, _SHOWN), ""]
    lines += [f"warning: {safe(warning, 400)}" for warning in found.warnings]
    return "\n".join([*lines, *_judged(found)]).rstrip("\n")


def markdown(found: Comparison) -> str:
    """A comment for a pull request: the answer and the verdicts; the rest is folded."""
    lines = [f"### {_escaped(_title(found))}", ""]
    if found.comparable:
        answer = of_runs(found)
        rests_on = "; ".join(filter(None, (answer.number, answer.about, *answer.notes)))
        lines += [
            f"**{_escaped(answer.words)}**" + (f" ({_escaped(rests_on, 1000)})" if rests_on else "")
        ]
        lines += ["", *(f"- not compared: {_escaped(one, 400)}" for one in answer.uncompared)]
        lines += ["", "| | area | verdict |", "|---|---|---|"]
        lines += [
            f"| {MARKS[one.outcome]} | {one.area} | {_escaped(one.words, _VERDICT)} |"
            for one in found.verdicts
        ]
    else:
        lines += ["**Not comparable:**", ""]
        lines += [f"- {_escaped(_difference(one), 400)}" for one in _of(found, "severe")]
    headings, rows = _headings(found), [_cells(found, row) for row in found.rows]
    table = [_markdown_row(headings), "|---|" + "---:|" * (len(headings) - 1)]
    table += [_markdown_row(row) for row in rows]
    around = [one for one in found.differences if one.severity != "severe"]
    details = [
        f"- {name}: {_escaped(_runs(side), 400)}"
        for name, side in zip(found.names, (found.a, found.b), strict=True)
    ]
    details += [f"- {_escaped(_difference(one))}" for one in around[:50]]
    details += [f"- warning: {_escaped(warning, 400)}" for warning in found.warnings]
    folded = [*_folded("The figures", table), *_folded("The runs, and what else differs", details)]
    return "\n".join([*lines, *folded, ""])


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def as_json(found: Comparison) -> str:
    """Everything as JSON, with the runs by their ids."""
    content = {field.name: getattr(found, field.name) for field in fields(found)}
    for name, side in (("a", found.a), ("b", found.b)):
        content[name] = [record["run_id"] for record in side]
    content |= {"comparable": found.comparable, "regressed": found.regressed}
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def benchmark(found: Comparison) -> str:
    """B's figures as github-action-benchmark's `customSmallerIsBetter` takes them."""
    case = safe(case_name(found.b[0]) or "?")
    what = " ".join([case, *([found.b[0]["impl"]] if found.b[0]["impl"] else [])])
    entries = []
    for row in found.rows:
        if row.better != "lower" or not isinstance(row.b, float):
            continue
        entry = {"name": f"{what}: {row.name}", "unit": row.unit, "value": row.b}
        if row.low is not None and row.high is not None and row.ratio:
            entry["range"] = f"± {(row.high - row.low) / 2 / row.ratio * row.b:.3g}"
        if isinstance(row.a, float):
            entry["extra"] = f"baseline {row.a:.6g}" + (
                f", {percent(row.ratio)}" if row.ratio else ""
            )
        entries.append(entry)
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _title(found: Comparison) -> str:
    first, (a, b) = found.a[0], found.names
    environment = first["environment"]
    about = [
        safe(case_name(first) or "?"),
        first["size"] or "size ?",
        f"{environment['device_count'] or '?'} x {safe(str(environment['device_kind'] or '?'))}",
    ]
    return f"{', '.join(about)}: {b} against {a}"


def _runs(side: Sequence[Record]) -> str:
    ids = [record["run_id"] for record in side]
    parts = [shortlist(ids), side[0]["impl"] or "impl ?"]
    if side[0]["status"] != "completed":
        parts.append(side[0]["status"])
    return ", ".join(parts)


def _of(found: Comparison, severity: str) -> list[Difference]:
    return [one for one in found.differences if one.severity == severity]


def _differences(found: Comparison) -> list[str]:
    """What differs around the figures: a line each, but one for all that a side does not tell."""
    lines = []
    for one in _of(found, "intended"):
        lines.append(f"compared: {_difference(one)}")
    told = [one for one in _of(found, "mild") if not one.unknown]
    lines += [f"differs: {_difference(one)}" for one in told[:_SHOWN]]
    if len(told) > _SHOWN:
        lines.append(f"differs: {len(told) - _SHOWN} more (--json has all)")
    for name in "AB":
        keys = [safe(one.key) for one in _of(found, "mild") if name in one.unknown]
        settings = [key for key in keys if key.startswith("case.config.")]
        if len(settings) > _SHOWN:
            keys = [f"{len(settings)} settings", *(key for key in keys if key not in settings)]
        if keys:
            lines.append(f"not told by {name}: {', '.join(keys)}")
    return lines


def _difference(one: Difference) -> str:
    a, b = (
        "unknown" if name in one.unknown else _value(value)
        for name, value in (("A", one.a), ("B", one.b))
    )
    words = f" ({safe(one.words, 400)})" if one.words else ""
    return f"{safe(one.key)}: {a} -> {b}{words}"


def _value(value: Any) -> str:
    text = safe(value if isinstance(value, str) else json.dumps(value))
    return text[:12] if re.fullmatch("[0-9a-f]{40,}", text) else text or "''"


def _judged(found: Comparison) -> list[str]:
    """The answer, what it says nothing of, and the verdicts that it follows from."""
    if not found.comparable:
        return []
    answer = of_runs(found)
    notes = f" ({'; '.join(answer.notes)})" if answer.notes else ""
    told = [("answer", answer.words + notes)]
    told += [("not compared", one) for one in answer.uncompared]
    told += [(one.area, one.words) for one in found.verdicts]
    width = max(len(area) for area, _ in told)
    return [
        f"{('' if number else area).ljust(width)}  {line}"
        for area, words in told
        for number, line in enumerate(broken(safe(words, _VERDICT), _BROAD))
    ]


def _not_comparable(found: Comparison) -> list[str]:
    severe = _of(found, "severe")
    lines = ["not comparable:", *capped([_difference(one) for one in severe], _SHOWN)]
    liftable = [one.key for one in severe if one.key != "steps"]
    if liftable:
        more = " ..." if len(liftable) > 3 else ""
        options = " ".join(f"--across {safe(key)}" for key in liftable[:3])
        lines.append(f"if that is the point of the comparison: {options}{more}")
    return lines


def _headings(found: Comparison) -> list[str]:
    return ["", *found.names, *(["ratio"] if found.comparable else [])]


def _cells(found: Comparison, row: Row) -> list[str]:
    unit = f", {row.unit}" if row.unit and row.unit != "bytes" else ""
    cells = [row.name + unit, _figure(row, row.a), _figure(row, row.b)]
    return [*cells, _ratio(row)] if found.comparable else cells


def _figure(row: Row, value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return safe(value, 20)
    if row.unit == "bytes":
        return size(value)
    if 1000 <= value < 1e15:
        return f"{value:,.0f}"
    return f"{value:.9g}" if row.name == "final loss" else f"{value:.4g}"


def _ratio(row: Row) -> str:
    if row.a is None or row.b is None:
        return ""
    if row.a == row.b:
        return "="
    if row.ratio is None:
        return "≠" if row.is_unlike else ""
    if row.low is None or row.high is None:
        return times(row.ratio)
    return f"{times(row.ratio)} ({times(row.low)} to {times(row.high)})"


def _escaped(text: str, longest: int = 100) -> str:
    """A text that Markdown shows as it is: no table, code, link, mention or HTML in it."""
    return re.sub(r"[\\`*_\[\]<>#|~@&]", lambda found: f"&#{ord(found[0])};", safe(text, longest))


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _plain(value: Any) -> Any:
    """As JSON has it; null for what it has no number for."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
