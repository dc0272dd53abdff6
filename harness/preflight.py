"""What a case needs on TPU slices: `harness preflight --case all --topology v6e-8`."""

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from harness.cases import families, reading
from harness.cases.settings import Case
from harness.records import record
from harness.slices import forecast_text, topology
from harness.slices.forecast import Forecast, Question, make
from harness.slices.topology import Slice
from harness.terminal import cli
from harness.terminal.errors import UserError
from harness.training import checking
from harness.training.console import Console

_DOES_NOT_FIT = 1


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness preflight",
        description="Compiles a case's step for TPU slices and says what it needs and does there.",
    )
    add = arguments.add_argument
    add("--case", help="a case's name, a YAML file, or all; needed without --twins")
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both")
    add("--twins", metavar="MODULE", help="a pair of your own, see models/seam.py")
    add(
        "--topology",
        required=True,
        help="slices as XPK names them, such as v6e-8,v6e-32; 2xv6e-32 is two slices",
    )
    add("--size", default="full", choices=["tiny", "full"])
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="how it is set up")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add("--json", type=Path, metavar="FILE", help="write the records, as one list")
    add("--markdown", type=Path, metavar="FILE", help="write the figures, as one table")
    return arguments


def main(argv: list[str]) -> int:
    """Answers what the arguments ask; returns the exit code."""
    arguments = parser().parse_args(argv)
    for path in (arguments.json, arguments.markdown):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    slices = [topology.find(name) for name in arguments.topology.split(",")]
    case_name = reading.given(arguments.case, arguments.twins)
    names = reading.case_names() if case_name == "all" else [case_name]
    impls = families.chosen(families.load(arguments.twins), arguments.impl)
    cases = [
        reading.load(name, arguments.size, arguments.set, arguments.recipe, arguments.twins)
        for name in names
    ]
    for case in cases:
        checking.require(case)
    with open(os.devnull, "w") as nowhere, Console(nowhere) as console:
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
        console.line(f"\n{case.name} on {on.name} ({on.chips} chips, {on.shape_text})")
        pair: list[Forecast] = []
        for impl in impls:
            question = Question(case, arguments.size, arguments.recipe, impl, on)

            def phase(name: str, impl: str = impl) -> None:
                console.begin(f"{impl}: {name}")

            pair.append(make(question, phase, pair[0] if pair else None))
            console.end()
            for warning in pair[-1].record["warnings"]:
                console.line(f"{impl}: {warning}")
        console.line(forecast_text.describe(pair[0]))
        if len(pair) == 2:
            console.line(forecast_text.same_program(*pair))
            console.line(forecast_text.both_states(*pair))
        console.line(forecast_text.fit(pair[0]))
        found += pair
    if len(slices) > 1:
        console.line(f"\n{case.name}: " + forecast_text.scaling(found[:: len(impls)]))
    return found


def _write(arguments: Namespace, forecasts: Sequence[Forecast]) -> None:
    for forecast in forecasts:
        record.validate(forecast.record)
    if arguments.json is not None:
        records = [forecast.record for forecast in forecasts]
        arguments.json.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n")
    if arguments.markdown is not None:
        arguments.markdown.write_text(forecast_text.markdown(forecasts) + "\n")


if __name__ == "__main__":
    cli.main(main)
