"""A page for a run: everything its record and its log say."""

from typing import Any

from markupsafe import Markup, escape

from harness.pages import anatomy, curves, log, rendering, schedules, words
from harness.pages.gathering import Case
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record, case_name, schema

_STEPS_SHOWN = 500  # of the first ones, and of the last ones
_SECTIONS = ("timing", "memory", "model", "program", "checkpoint", "prediction")
_NEVER_RAN = ("preflight", "imported")  # here
_DRAWN = ("cycles_by_part", "tflop_by_part")  # parts of a section that stand in a picture


def page(run: Run, case: Case | None) -> str:
    """The page; `case` is the run's, if it is of one."""
    content = run.record
    steps = content["steps"]
    compiled = content["status"] == "preflight"
    ran = content["status"] not in _NEVER_RAN
    metrics = _metrics(steps)
    return rendering.render(
        "run.html.jinja",
        run.page,
        has_charts=True,
        title=_title(run),
        compiled=compiled,
        ran=ran,
        run=run,
        content=content,
        case=case,
        sections=[(name, rows) for name in _SECTIONS if (rows := _rows(content, name))],
        charts=curves.charts_of([run], "run", dashed=""),
        memory=anatomy.memory([(run.short, run)]),
        step=anatomy.step({content["environment"]["topology"] or run.short: run}),
        wall=anatomy.wall([(run.short, run)]),
        saving=anatomy.saving([(run.short, run)]),
        parts_of_compute=anatomy.parts([(run.short, run)]),
        metrics=metrics,
        evaluated=_evaluated(content),
        step_rows=_step_rows(steps[:_STEPS_SHOWN], metrics),
        last_rows=_step_rows(steps[max(_STEPS_SHOWN, len(steps) - _STEPS_SHOWN) :], metrics),
        left_out=len(steps) - 2 * _STEPS_SHOWN,
        log=None if run.folder is None else log.read(run.folder / "log.txt"),
        log_text=_log_text,
        source=run.source if "source" in content else None,
        pipeline=schedules.shown(content.get("pipeline"), case.orders if case else []),
        orders=schedules.logged(run) if "source" in content else [],
    )


def _title(run: Run) -> str:
    """The run, and what it is a run of."""
    content = run.record
    on = content["environment"]["topology"] if content["status"] == "preflight" else None
    about = [case_name(content) or "", content["impl"] or "", on or ""]
    return ", ".join([str(content["run_id"]), *filter(None, about)])


def _rows(content: Record, section: str) -> list[dict[str, Any]]:
    """Every value of a section with what it means, by the schema; parts of parts by their path.

    Of what never ran here, what is not known is left out.
    """
    rows = _all_rows(content, section)
    ran = content["status"] not in _NEVER_RAN
    return [row for row in rows if ran or (row["value"] is not None and not _is_empty(row))]


def _is_empty(row: dict[str, Any]) -> bool:
    """Whether it counts the samples of figures that there are not."""
    return bool(row["key"] == "step_seconds.samples" and row["value"] == 0)


def _all_rows(content: Record, section: str) -> list[dict[str, Any]]:
    known = schema()["properties"][section]["properties"]
    rows = []
    for key, found in content[section].items():
        if key == "digests" or key in _DRAWN:  # digests of each array are not for readers
            continue
        about = known.get(key, {})
        if isinstance(found, dict):
            inner = about.get("properties", {})
            rows += [
                {"key": f"{key}.{part}", "name": _name(key, part),
                 "unit": key if part in ("median", "p10", "p90") else part, "value": one,
                 "about": inner.get(part, {}).get("description", "")}
                for part, one in found.items()
                if not isinstance(one, dict | list)
            ]  # fmt: skip
        elif not isinstance(found, list):
            rows.append({"key": key, "name": words.name_of(key), "unit": key, "value": found,
                         "about": about.get("description", "")})  # fmt: skip
    return rows


def _name(key: str, part: str) -> str:
    """Of a part of a part; the names of options are the compiler's own."""
    return part if key == "compiler_options" else f"{words.name_of(key)}, {words.name_of(part)}"


def _metrics(steps: list[Record]) -> list[str]:
    """The metrics beside the usual ones that any step has, in the order in which they come."""
    usual = schema()["properties"]["steps"]["items"]["properties"].keys()
    return [
        key for key in dict.fromkeys(key for entry in steps for key in entry) if key not in usual
    ]


def _evaluated(content: Record) -> list[str]:
    """What any evaluation tells beside its step, loss and seconds, in the order they come."""
    keys = dict.fromkeys(key for entry in content.get("evals", ()) for key in entry)
    return [key for key in keys if key not in ("step", "loss", "seconds")]


def _step_rows(steps: list[Record], metrics: list[str]) -> Markup:
    """Rows of numbers, put together by hand: a report may hold half a million of them."""
    return Markup(
        "".join(
            f"<tr><td>{_cell(entry['step'])}<td>{_cell(entry['loss'])}"
            f"<td>{_cell(entry['grad_norm'])}<td>{_cell(entry['learning_rate'])}"
            f"<td>{_cell(entry['step_seconds'])}<td>{_cell(entry['total_weights'])}"
            f"{''.join(f'<td>{_cell(entry.get(key))}' for key in metrics)}"
            f"<td>{_after(entry)}\n"
            for entry in steps
        )
    )


def _after(entry: Record) -> str:
    """What had left the device idle when a step began."""
    known = {"a save": entry["after_save"], "an evaluation": entry.get("after_eval", False)}
    told = " and ".join(what for what, so in known.items() if so)
    return f"after {told}" if told else ""


def _cell(found: Any) -> str:
    known = figures.number(found)
    return words.MISSING if known is None else f"{known:.9g}"


def _log_text(text: str) -> Markup:
    """A log as it is, beyond the length that other texts are cut to."""
    return escape(words.clean(text, len(text)))
