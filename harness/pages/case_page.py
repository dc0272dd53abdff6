"""A page for a case: its two sides, what they consist of, and what others published."""

from typing import Any

from harness.pages import anatomy, answers, curves, programs_page, rendering, schedules, turns
from harness.pages.gathering import Case, Group, compiled_for
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record, at

_LISTED = 200  # runs in the table
_CROSSINGS = {  # what crosses jit, by nnx_state
    "dict": "plain trees, jax.jit",
    "state": "nnx.State, jax.jit",
    "jit": "model and nnx.Optimizer, nnx.jit",
}


def page(case: Case, before: Case | None, after: Case | None) -> str:
    """The page, with links to the case before and the one after it."""
    measured = [run for group in case.groups for run in group.runs]
    measured.sort(key=lambda run: run.record["environment"]["time"] or "", reverse=True)
    slices = {on: next(iter(sides.values())) for on, sides in case.preflights.items()}
    return rendering.render(
        "case.html.jinja",
        case.page,
        has_charts=True,
        title=f"{case.name}: {case.names[1]} against {case.names[0]}",
        case=case,
        before=before,
        after=after,
        line=answers.of_case(case, case.groups, list(case.preflights)),
        groups=[_group(number, group) for number, group in enumerate(case.groups)],
        slices=slices,
        programs=programs_page.path(case),
        step_anatomy=anatomy.step(slices),
        slice_memory=anatomy.memory(list(slices.items())),
        measured_on=_measured_on(case),
        errors=_model_errors(slices),
        published_charts=curves.charts_of(case.published, "published", all_kinds=False),
        published_saving=anatomy.saving([(run.short, run) for run in case.published]),
        published_memory=anatomy.memory([(run.short, run) for run in case.published]),
        pipeline=schedules.shown(_pipeline(case, measured), case.orders),
        runs=measured[:_LISTED],
        left_out=len(measured) - _LISTED,
    )


def _group(number: int, group: Group) -> dict[str, Any]:
    """A kind of devices: its comparison, or its newest runs where there is none."""
    shown = group.runs[-2:] if group.pair is None else [*group.pair.a, *group.pair.b]
    named = [(run.short, run) for run in shown]
    overlaid = _interleaved(group, shown)
    return {
        "group": group,
        "pair": group.pair,
        "charts": curves.charts_of(overlaid, f"group-{number}", dashed=group.names[1]),
        "turns": "" if group.pair is None else turns.chart(group.pair.found),
        "crossings": _crossings(group),
        "overlaid": min(curves.MOST, len(overlaid)),
        "memory": anatomy.memory(_one_each(named)),
        "wall": anatomy.wall(_one_each(named)),
        "saving": anatomy.saving(_one_each(named)),
    }


def _interleaved(group: Group, shown: list[Run]) -> list[Run]:
    """The compared runs last, so that they are kept and drawn on top of the older ones."""
    alike = shown[0].record["case"]["config"] if shown else None
    older = [
        run for run in group.runs if run not in shown and run.record["case"]["config"] == alike
    ]
    if len(shown) > curves.MOST:
        half = curves.MOST // 2
        shown = [
            run
            for name in group.names
            for run in [one for one in shown if one.impl == name][-half:]
        ]
    return [*older, *shown][-curves.MOST :]


def _crossings(group: Group) -> list[tuple[str, Run]]:
    """The newest NNX run of each way that the state crosses jit, where there is more than one."""
    newest = {
        at(run.record, "nnx_state"): run
        for run in group.runs
        if run.impl == "nnx" and run.record["status"] == "completed"
    }
    found = [(words, newest[mode]) for mode, words in _CROSSINGS.items() if mode in newest]
    return found if len(found) > 1 else []


def _one_each(named: list[tuple[str, Run]]) -> list[tuple[str, Run]]:
    """The last run of each implementation: repeats have the same memory and the same saves."""
    return list({run.impl: (name, run) for name, run in named}.values())


def _measured_on(case: Case) -> dict[str, list[Run]]:
    """The runs of full size on each slice, measured or published, that know their step."""
    found: dict[str, list[Run]] = {on: [] for on in case.preflights}
    for run in [*case.published, *(run for group in case.groups for run in group.runs[-4:])]:
        on = compiled_for(run.record)
        full = run.record["size"] == "full"
        if full and on in found and figures.step_seconds(run.record) is not None:
            found[on].append(run)
    return found


def _pipeline(case: Case, measured: list[Run]) -> Record | None:
    """The pipeline of the newest run of full size, else of a slice, else of any run."""
    full = [run for run in measured if run.record["size"] == "full"]
    compiled = [run for sides in case.preflights.values() for run in sides.values()]
    told = (run.record.get("pipeline") for run in [*full, *compiled, *measured])
    return next((one for one in told if one is not None), None)


def _model_errors(slices: dict[str, Run]) -> list[dict[str, Any]]:
    """How far the model of step times was off on published runs: the same for every slice."""
    for run in slices.values():
        listed = run.record["prediction"].get("checked_against")
        if isinstance(listed, list):
            return [entry for entry in listed if isinstance(entry, dict)]
    return []
