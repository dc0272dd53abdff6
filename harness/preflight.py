"""What a case needs on TPU slices: `harness preflight --case all --topology v6e-8`."""

import json
import math
import shlex
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import hardware
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.records import environment, record
from harness.slices import forecast_text, rows, search, search_text, space, topology
from harness.slices.forecast import Forecast, Question, make
from harness.slices.topology import Slice
from harness.terminal import cli, outputs
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.training import checking
from harness.training.phases import Phases

_DOES_NOT_FIT = 1
_MINUTES = 30.0


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness preflight",
        description="Compiles a case's step for TPU slices and says what it needs and does there.",
    )
    add = arguments.add_argument
    add("--case", help="a case's name, a YAML file, or all; needed without --twins")
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both")
    add("--twins", metavar="MODULE", help="two models of your own, as of harness run")
    add(
        "--topology",
        required=True,
        help="slices as XPK names them, such as v6e-8,v6e-32; 2xv6e-32 is two slices",
    )
    add("--size", default="full", choices=["tiny", "full"])
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="the step as"
        " published, or set up for speed")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add("--search", action="store_true", help="find the settings by which the case is fastest")
    add(
        "--search-minutes",
        type=_minutes,
        default=_MINUTES,
        metavar="N",
        help="how long a search may take; the same command goes on where it ended",
    )
    add("--allow", choices=["recipe"], help="let a search change the recipe of int8 too, and so"
        " where it is rounded")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the records as one list, or what a"
        " search found")  # fmt: skip
    add("--markdown", type=Path, metavar="FILE", help="write the figures as one table")
    return arguments


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise ArgumentTypeError(f"{text}: must be a number above 0")
    return minutes


def main(argv: list[str]) -> int:
    """Answers what the arguments ask; returns the exit code."""
    arguments = parser().parse_args(argv)
    for path in (arguments.json, arguments.markdown):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    slices = [topology.find(name) for name in arguments.topology.split(",")]
    topology.prepare()  # asked for now, not after the cases are read and tried
    case_name = reading.given(arguments.case, arguments.twins)
    names = reading.case_names() if case_name == "all" else [case_name]
    impls = families.chosen(families.load(arguments.twins), arguments.impl)
    cases = [
        reading.load(name, arguments.size, arguments.set, arguments.recipe, arguments.twins)
        for name in names
    ]
    for case in cases:
        checking.require(case)
    if arguments.search:
        _require_one(cases, slices)
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


def _require_one(cases: Sequence[Case], slices: Sequence[Slice]) -> None:
    """Raises UserError unless one case is asked for, on one slice for which steps are predicted."""
    if len(cases) > 1 or len(slices) > 1:
        raise UserError("--search: must be of one case, on one slice")
    (on,) = slices
    kind = on.devices()[0].device_kind
    device = hardware.find(kind)
    if on.count > 1 or device is None or device.chip is None:
        raise UserError(f"--search: no step can be predicted for {on.name} ({kind})")


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


if __name__ == "__main__":
    cli.main(main)
