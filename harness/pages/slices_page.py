"""A page of slices: what fits where, what it costs there, and what a step consists of."""

from dataclasses import dataclass, replace
from typing import Any

from harness.pages import anatomy, rendering
from harness.pages.gathering import Case, Collection, compiled_for
from harness.pages.sources import Run
from harness.records import figures

_STEPS = 1000  # that a price is told for
_TOKENS = 1e6


@dataclass(frozen=True)
class Price:
    """What a case needs on a slice: chips times minutes, None where it is not known.

    others: cases that are the same program there.
    """

    case: Case
    others: tuple[Case, ...]
    on: str
    run: Run
    chips: float | None
    compile: float | None
    steps: float | None  # a thousand
    tokens: float | None  # a million


def page(name: str, collection: Collection) -> str:
    """The page, of one compilation for each case, slice and recipe."""
    prices = [
        _price(case, on, next(iter(sides.values())))
        for case in collection.cases
        for on, sides in case.preflights.items()
    ]
    programs = _programs(prices)
    topologies = dict.fromkeys(
        _topology(one) for one in sorted(prices, key=lambda one: (one.chips or 0.0, one.on))
    )
    return rendering.render(
        "slices.html.jinja",
        name,
        title="Slices",
        topologies=list(topologies),
        rows=_fits(prices),
        prices=_by_case(programs),
        steps=_STEPS,
        timelines=[
            anatomy.timeline(
                f"A step on {topology}, as predicted",
                [(_called(one), one.run) for one in programs if _topology(one) == topology],
            )
            for topology in topologies
        ],
    )


def _price(case: Case, on: str, run: Run) -> Price:
    content = run.record
    chips = figures.number(content["environment"]["device_count"])
    step = figures.number(content["prediction"]["step_seconds"])
    config = content["case"]["config"]
    tokens = None
    length, batch = (
        _count(config.get(f"data.{key}")) for key in ("sequence_length", "global_batch")
    )
    each = _count(config.get("data.per_device_batch"))
    if batch is None and each is not None and chips is not None:
        batch = each * chips
    if batch is not None and length is not None:
        tokens = batch * length

    def minutes(seconds: float | None) -> float | None:
        return None if seconds is None or chips is None else chips * seconds / 60

    return Price(
        case,
        (),
        on,
        run,
        chips,
        minutes(figures.figure(content, "timing.compile_seconds")),
        minutes(None if step is None else _STEPS * step),
        minutes(None if step is None or not tokens else _TOKENS / tokens * step),
    )


def _count(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int) else figures.number(value)


def _programs(prices: list[Price]) -> list[Price]:
    """Those that fit, one for cases that are one program with one batch on a slice."""
    found: dict[object, Price] = {}
    for one in prices:
        content = one.run.record
        if content["error"] is None:
            known = content["program"]["optimized_sha256"] or one.run.page
            key = known, one.on, one.tokens
            if key in found:
                found[key] = replace(found[key], others=(*found[key].others, one.case))
            else:
                found[key] = one
    return list(found.values())


def _by_case(programs: list[Price]) -> dict[tuple[str, ...], list[Price]]:
    """The prices of cases that share their programs, by the names of these."""
    found: dict[tuple[str, ...], list[Price]] = {}
    for one in programs:
        found.setdefault(tuple(case.name for case in (one.case, *one.others)), []).append(one)
    return found


def _topology(one: Price) -> str:
    return str(one.run.record["environment"]["topology"] or "no slice")


def _called(one: Price) -> str:
    """The cases, and what else than the slice sets their compilation apart."""
    rest = compiled_for(one.run.record).partition(", ")[2]
    more = f" and {len(one.others)} more" if one.others else ""
    return f"{one.case.name}{more}" + (f", {rest}" if rest else "")


def _fits(prices: list[Price]) -> list[tuple[Case, str, dict[str, Price]]]:
    """For each case and recipe its compilations by slice."""
    rows: dict[str, tuple[Case, str, dict[str, Price]]] = {}
    for one in prices:
        called = _called(one)
        rows.setdefault(called, (one.case, called, {}))[2][_topology(one)] = one
    return list(rows.values())
