"""What a case needs on TPU slices: `harness preflight --case all --topology v6e-8`."""

import math
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

from harness import hardware
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.slices import topology
from harness.slices.topology import Slice
from harness.terminal import cli
from harness.terminal.errors import UserError

_MINUTES = 30.0


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness preflight",
        description="Compiles a case's step for TPU slices and says what it needs and does there.",
    )
    add = arguments.add_argument
    add("--case", help="a case's name, a YAML file, several with commas between, or all;"
        " needed without --twins")  # fmt: skip
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both")
    add("--twins", metavar="MODULE", help="two models of your own, as of harness run")
    add(
        "--topology",
        required=True,
        help="slices as XPK names them, such as v6e-8,v6e-32; 2xv6e-32 is two slices",
    )
    add("--size", default="full", choices=["tiny", "full"])
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="the step as"
        " published, set up for speed, or with what only a chip can judge besides")  # fmt: skip
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
    """Answers what the arguments ask; returns the exit code.

    Imports JAX only once nothing is left to be refused without it.
    """
    arguments = parser().parse_args(argv)
    for path in (arguments.json, arguments.markdown):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    slices = [topology.find(name) for name in arguments.topology.split(",")]
    topology.prepare()  # asked for now, not after the cases are read and tried
    case_name = reading.given(arguments.case, arguments.twins)
    names = reading.case_names() if case_name == "all" else case_name.split(",")
    impls = families.chosen(families.load(arguments.twins), arguments.impl)
    cases = [
        reading.load(name, arguments.size, arguments.set, arguments.recipe, arguments.twins)
        for name in names
    ]
    if arguments.search:
        _require_one(cases, slices)
    from harness.slices import answering

    return answering.answered(arguments, cases, slices, impls, argv)


def _require_one(cases: Sequence[Case], slices: Sequence[Slice]) -> None:
    """Raises UserError unless one case is asked for, on one slice for which steps are predicted."""
    if len(cases) > 1 or len(slices) > 1:
        raise UserError("--search: must be of one case, on one slice")
    (on,) = slices
    kind = on.devices()[0].device_kind
    device = hardware.find(kind)
    if on.count > 1 or device is None or device.chip is None:
        raise UserError(f"--search: no step can be predicted for {on.name} ({kind})")


if __name__ == "__main__":
    cli.main(main)
