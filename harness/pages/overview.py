"""The first page: which twins are the same, as far as runs have shown."""

from typing import Any

from harness.pages import rendering, turns
from harness.pages.gathering import Case, Collection, Group
from harness.pages.sources import Run
from harness.records import figures
from models.seam import USUAL_NAMES

_NEWEST = 12


def page(name: str, collection: Collection) -> str:
    """The overview, with a row for each case and kind of devices."""
    measured = [run for case in collection.cases for group in case.groups for run in group.runs]
    published = [run for case in collection.cases for run in case.published]
    measured.sort(key=lambda run: run.record["environment"]["time"] or "", reverse=True)
    rows: list[dict[str, Any]] = [
        {"case": case, "groups": [_row(group) for group in case.groups],
         "slices": _slices(case)}
        for case in collection.cases
    ]  # fmt: skip
    return rendering.render(
        "overview.html.jinja",
        name,
        title="Linen or NNX",
        rows=rows,
        newest=measured[:_NEWEST],
        measured=len(measured),
        published=[(run, figures_of(run)) for run in published],
        pairs=[pair for case in collection.cases for pair in case.published_pairs],
        preflights=sum(
            len(sides) for case in collection.cases for sides in case.preflights.values()
        ),
        others=collection.others,
        warnings=collection.warnings,
        step_seconds=figures.step_seconds,
        implementations=USUAL_NAMES,
    )


def figures_of(run: Run) -> dict[str, Any]:
    """The figures that a document itself publishes, by their names."""
    return {entry["figure"]: entry for entry in run.source["figures"]}


def _row(group: Group) -> dict[str, Any]:
    """A side shows its run of the comparison, or else its newest one."""
    compared = ((), ()) if group.pair is None else (group.pair.a, group.pair.b)
    sides = []
    for impl, own in zip(group.names, compared, strict=True):
        newest = own or [run for run in group.runs if run.impl == impl]
        sides.append((impl, newest[-1] if newest else None))
    drawn = "" if group.pair is None else turns.small(group.pair.found)
    return {"group": group, "sides": sides, "newest": group.runs[-1], "turns": drawn}


def _slices(case: Case) -> dict[str, list[str]]:
    """The slices for which the case was compiled, by what came out."""
    found: dict[str, list[str]] = {}
    programs = {True: ", one program", False: ", different programs", None: ""}
    for on, sides in case.preflights.items():
        fits = all(run.record["error"] is None for run in sides.values())
        pair = case.preflight_pairs.get(on)
        same = programs[pair.found.programs.same if pair is not None else None]
        found.setdefault(f"{'fits' if fits else 'does not fit'}{same}", []).append(on)
    return found
