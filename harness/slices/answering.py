"""What `harness preflight` answers: what cases need on slices, or what is fastest there."""

import json
import shlex
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from harness.cases import reading
from harness.cases.settings import Case
from harness.records import environment, record
from harness.slices import forecast_text, rows, search, search_text, space
from harness.slices.forecast import Forecast, Question, make
from harness.slices.topology import Slice
from harness.terminal import outputs
from harness.terminal.console import Console
from harness.training import checking
from harness.training.phases import Phases

_DOES_NOT_FIT = 1


def answered(
    arguments: Namespace,
    cases: Sequence[Case],
    slices: Sequence[Slice],
    impls: Sequence[str],
    argv: Sequence[str],
) -> int:
    """Answers what the arguments ask of these cases; returns the exit code."""
    for case in cases:
        checking.require(case)
    if arguments.search:
        return _search(arguments, cases[0], slices[0], impls[0], argv)
    with Console() as console:
        console.expect(len(cases) * len(slices) * len(impls))
        forecasts = [
            forecast
            for case in cases
            for forecast in _case(case, slices, impls, arguments, console)
        ]
    _write(arguments, forecasts)
    return 0 if all(forecast.fits for forecast in forecasts) else _DOES_NOT_FIT


def _case(
    case: Case,
    slices: Sequence[Slice],
    impls: Sequence[str],
    arguments: Namespace,
    console: Console,
) -> list[Forecast]:
    """One case on each slice, told as it becomes known."""
    found: list[Forecast] = []
    for on in slices:
        console.line(f"\n{case.shown} on {on.name} ({on.chips} chips, {on.shape_text})")
        pair: list[Forecast] = []
        for impl in impls:
            question = Question(case, arguments.size, arguments.recipe, impl, on)
            work = f"{case.name}, {arguments.size}, {arguments.recipe}, {on.name}"
            phases = Phases(console, work)

            def phase(name: str, impl: str = impl, phases: Phases = phases) -> None:
                phases.begin(name, f"{impl}: {name}")

            pair.append(make(question, phase, pair[0] if pair else None))
            phases.end()
            console.done()
            told = pair[0].record["warnings"] if len(pair) > 1 else ()
            for warning in pair[-1].record["warnings"]:
                if warning not in told:  # of the other one too
                    console.line(f"{impl}: {warning}")
        console.line(forecast_text.fit(pair[0]))
        if len(pair) == 2:
            console.line(forecast_text.same_program(*pair))
            console.line(forecast_text.both_states(*pair))
        console.line(f"\nin detail, of a device:\n{forecast_text.describe(pair[0])}")
        found += pair
    if len(slices) > 1:
        console.line(f"\n{case.shown}: " + forecast_text.scaling(found[:: len(impls)]))
    return found


def _search(arguments: Namespace, case: Case, on: Slice, impl: str, argv: Sequence[str]) -> int:
    """The settings by which a case is fastest on a slice, each told as it is compiled."""
    name = reading.given(arguments.case, arguments.twins)

    def load(recipe: str, overrides: Sequence[str]) -> Case:
        said = [*arguments.set, *overrides]
        return reading.load(name, arguments.size, said, recipe, arguments.twins)

    recipes = space.recipes(case, arguments.recipe, may_round=arguments.allow == "recipe")
    around = space.Space(load, recipes)
    question = Question(case, arguments.size, arguments.recipe, impl, on)
    sought = search_text.Sought(question, arguments.set, arguments.search_minutes)
    with Console() as console:

        def ask(candidate: space.Candidate) -> rows.Row:
            asked = replace(question, case=around.case(candidate), recipe=candidate.recipe)
            what = sought.options(candidate)
            try:
                forecast = make(asked, lambda phase: console.begin(f"{what}: {phase}"), None)
            finally:
                console.end()
            return rows.row(candidate, int(around.value(candidate, around.batch_key)), forecast)

        found = search.search(
            around,
            ask,
            60 * arguments.search_minutes,
            time.monotonic,
            lambda row, left: console.line(search_text.line(sought, row, left)),
        )
        console.line("\n" + search_text.describe(sought, found))
    made = environment.collect(on.devices()) | {"hostname": None}
    command = shlex.join(["harness", "preflight", *argv])
    if arguments.json is not None:
        document = search_text.document(sought, found, made, command)
        outputs.write(arguments.json, json.dumps(document, indent=1, allow_nan=False) + "\n")
    if arguments.markdown is not None:
        outputs.write(arguments.markdown, search_text.markdown(sought, found, made, command) + "\n")
    return 0 if search.front(found.rows) else _DOES_NOT_FIT


def _write(arguments: Namespace, forecasts: Sequence[Forecast]) -> None:
    for forecast in forecasts:
        record.validate(forecast.record)
    if arguments.json is not None:
        records = [forecast.record for forecast in forecasts]
        outputs.write(arguments.json, json.dumps(records, indent=1, allow_nan=False) + "\n")
    if arguments.markdown is not None:
        outputs.write(arguments.markdown, forecast_text.markdown(forecasts) + "\n")
