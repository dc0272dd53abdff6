"""The first page: which twins are the same, as far as runs and compilations have shown."""

from dataclasses import dataclass
from typing import Any

from harness.pages import answers, rendering, turns
from harness.pages.answers import Line
from harness.pages.gathering import Case, Collection, Group, family_of
from harness.pages.sources import Run
from harness.records import figures

_EXPERIMENTS = 30  # the newest
_REPEATS = 10  # of one experiment, the newest


@dataclass(frozen=True)
class Experiment:
    """Runs of one experiment, of which `newest` are listed, and how its two sides compare.

    sides: of each, the newest run that is compared, else the newest, and its step: in turns where
    both were, else of the run itself.
    """

    case: Case
    group: Group
    sides: tuple[tuple[str, Run | None, float | None], ...]
    turns: str
    newest: tuple[Run, ...]


def page(name: str, collection: Collection) -> str:
    """The overview: a line for each family and case, then the experiments, the newest first."""
    measured = [run for case in collection.cases for group in case.groups for run in group.runs]
    published = [run for case in collection.cases for run in case.published]
    found = experiments(collection)
    return rendering.render(
        "overview.html.jinja",
        name,
        title="Are they the same?",
        families=_families(collection),
        experiments=found[:_EXPERIMENTS],
        left_out=len(found) - _EXPERIMENTS,
        measured=len(measured),
        published=[(run, figures_of(run)) for run in published],
        pairs=[pair for case in collection.cases for pair in case.published_pairs],
        preflights=sum(
            len(sides) for case in collection.cases for sides in case.preflights.values()
        ),
        others=collection.others,
        warnings=collection.warnings,
    )


def figures_of(run: Run) -> dict[str, Any]:
    """The figures that a document itself publishes, by their names."""
    return {entry["figure"]: entry for entry in run.source["figures"]}


def experiments(collection: Collection) -> list[Experiment]:
    """The experiments of all cases, that with the newest run first."""
    found = [_experiment(case, group) for case in collection.cases for group in case.groups]
    return sorted(
        found, key=lambda one: one.group.runs[-1].record["environment"]["time"] or "", reverse=True
    )


def _experiment(case: Case, group: Group) -> Experiment:
    compared = ((), ()) if group.pair is None else (group.pair.a, group.pair.b)
    in_turns = None if group.pair is None else group.pair.found.speed.in_turns
    sides = []
    for impl, own, seconds in zip(group.names, compared, in_turns or (None, None), strict=True):
        newest = own or [run for run in group.runs if run.impl == impl]
        run = newest[-1] if newest else None
        if seconds is None and run is not None:
            seconds = figures.step_seconds(run.record)
        sides.append((impl, run, seconds))
    drawn = "" if group.pair is None else turns.small(group.pair.found)
    return Experiment(case, group, tuple(sides), drawn, tuple(group.runs[: -_REPEATS - 1 : -1]))


def _families(collection: Collection) -> dict[str, list[tuple[Case, Line]]]:
    """The lines of each family in the order of its cases, first the families that have results."""
    found: dict[str, list[tuple[Case, Line]]] = {}
    for case in collection.cases:
        groups: dict[str, list[Group]] = {}
        for group in case.groups:
            groups.setdefault(family_of(group.runs[-1].record), []).append(group)
        compiled: dict[str, list[str]] = {}
        for on, sides in case.preflights.items():
            family = family_of(next(iter(sides.values())).record)
            compiled.setdefault(family, []).append(on)
        for family in {**groups, **compiled} or {case.header.family: None}:
            line = answers.of_case(case, groups.get(family, []), compiled.get(family, []))
            found.setdefault(family, []).append((case, line))
    return dict(sorted(found.items(), key=lambda one: all(_is_empty(case) for case, _ in one[1])))


def _is_empty(case: Case) -> bool:
    return not (case.groups or case.preflights)
