"""A page of a case's programs: parts and collectives of two beside each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.pages import anatomy, rendering
from harness.pages.gathering import Case, Pair
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record

_FIGURES = (  # of one program: name, where in the record, filter
    ("memory of a device", "memory.total_bytes", "size"),
    ("temporaries", "memory.temp_bytes", "size"),
    ("on the wire a step", "program.wire_bytes", "wire"),
    ("million cycles a step", "program.fusion_cycles", "millions"),
    ("the model's products a step", "model.tflop_per_step_per_device", "flop"),
    ("step, predicted", "prediction.step_seconds", "seconds"),
    ("to compile", "timing.compile_seconds", "seconds"),
)
_COLOURS = 6  # .k0 to .k5 in style.css


@dataclass(frozen=True)
class Side:
    """A program under the name that tells it from the one beside it."""

    name: str
    run: Run


def path(case: Case) -> str:
    """Where the page of a case's programs lies; empty where none is known."""
    known = _compiled(case) or _measured(case)
    return case.page.replace("cases/", "programs/", 1) if known else ""


def page(case: Case) -> str:
    """The page: programs that ran, then those compiled for slices, one and different; parts."""
    measured = {on: _sides(pair) for on, pair in _measured(case).items()}
    return rendering.render(
        "programs.html.jinja",
        path(case),
        title=f"{case.name}: programs of {case.names[0]} and {case.names[1]}",
        case=case,
        sections=list(_sections(case)),
        by_part=[
            (slice_, anatomy.parts([(side.name, side.run) for side in sides[:_COLOURS]]))
            for slice_, sides in {**measured, **_by_slice(case)}.items()
        ],
    )


def _measured(case: Case) -> dict[str, Pair]:
    """What ran on a kind of devices, where the programs of both sides are known."""
    return {
        group.label: group.pair
        for group in case.groups
        if group.pair is not None and group.pair.found.programs.same is not None
    }


def _sides(pair: Pair) -> list[Side]:
    """The two programs of a pair, or the one that both are."""
    names = pair.found.names
    if pair.found.programs.same:
        return [Side(" and ".join(names), pair.a[0])]
    return [Side(name, runs[0]) for name, runs in zip(names, (pair.a, pair.b), strict=True)]


def _compiled(case: Case) -> dict[str, dict[str, Run]]:
    """What fits, by slice and implementation."""
    known = {
        on: {impl: run for impl, run in sides.items() if run.record["error"] is None}
        for on, sides in case.preflights.items()
    }
    return {on: sides for on, sides in known.items() if sides}


def _sections(case: Case) -> Iterator[dict[str, Any]]:
    for on, ran in _measured(case).items():
        both = " and ".join(ran.found.names)
        one = " are one program" if ran.found.programs.same else ""
        yield _section(f"{on}: {both}{one}", _sides(ran), ran)
    alike: dict[str, list[Side]] = {}
    apart: list[tuple[str, list[Side]]] = []
    for on, sides in _compiled(case).items():
        pair = case.preflight_pairs.get(on)
        if pair is not None and pair.found.programs.same and len(sides) > 1:
            both = " and ".join(pair.found.names)
            alike.setdefault(both, []).append(Side(on, next(iter(sides.values()))))
        else:
            apart.append((on, [Side(impl, run) for impl, run in sides.items()]))
    for both, slices in alike.items():
        yield _section(f"Compiled for slices: {both} are one program", slices)
    for on, listed in apart:
        both = " and ".join(side.name for side in listed)
        yield _section(f"Compiled for {on}: {both}", listed, case.preflight_pairs.get(on))


def _by_slice(case: Case) -> dict[str, list[Side]]:
    """The programs on each slice, under what sets them apart: recipe, twins, implementation."""
    found: dict[str, list[Side]] = {}
    for on, sides in _compiled(case).items():
        slice_, _, rest = on.partition(", ")
        pair = case.preflight_pairs.get(on)
        if pair is not None and pair.found.programs.same:
            sides = dict(list(sides.items())[:1])
        names = [rest or "reference"] if len(sides) == 1 else [f"{rest} {impl}" for impl in sides]
        listed = zip(names, sides.values(), strict=True)
        found.setdefault(slice_, []).extend(Side(name.strip(), run) for name, run in listed)
    return found


def _section(title: str, sides: Sequence[Side], pair: Pair | None = None) -> dict[str, Any]:
    records = [side.run.record for side in sides]
    known = [(name, form, _values(records, place)) for name, place, form in _FIGURES]
    return {
        "title": title,
        "pair": pair,
        "sides": sides,
        "figures": [one for one in known if one[2] != [None] * len(sides)],
        "collectives": list(_collectives(records)),
        "cautions": [(side.name, line) for side in sides for line in _cautions(side.run.record)],
    }


def _cautions(content: Record) -> list[str]:
    """Why figures of a program are not exact, or its predicted time cannot be checked."""
    caution = content["prediction"].get("caution")
    return [*content["program"].get("inexact", []), *([str(caution)] if caution else [])]


def _values(records: Sequence[Record], place: str) -> list[float | None]:
    section, _, key = place.partition(".")
    return [figures.number(record[section].get(key)) for record in records]


def _collectives(
    records: Sequence[Record],
) -> Iterator[tuple[str, list[tuple[float, float] | None]]]:
    """Each kind with count and bytes on each side, that which sends most first."""
    found = [record["program"]["collectives"] or {} for record in records]
    kinds = {kind for side in found for kind in side}
    for kind in sorted(kinds, key=lambda one: (-max(_sent(side, one) for side in found), one)):
        yield (
            kind,
            [
                (side[kind]["count"], side[kind]["bytes"]) if kind in side else None
                for side in found
            ],
        )


def _sent(side: Record, kind: str) -> float:
    return figures.number(side[kind]["bytes"]) or 0.0 if kind in side else 0.0
