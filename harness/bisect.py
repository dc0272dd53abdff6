"""Finds where two implementations part: `harness bisect --case 03_dropout`."""

import shlex
import zipfile
from argparse import BooleanOptionalAction, Namespace
from pathlib import Path

from harness.cases import families, reading
from harness.saving import folders
from harness.terminal import cli
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.training import devices
from harness.training.phases import Phases


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness bisect",
        description="Computes one step twice, operation by operation, and says where it parts.",
    )
    add = arguments.add_argument
    add(
        "files",
        nargs="*",
        metavar="FILE",
        help="kept by --save: two are compared with each other, one with what --a names in the code"
        " here",
    )
    add("--case", help="a case's name or a YAML file; needed without --twins")
    add("--twins", metavar="MODULE", help="two models of your own, as of harness run")
    add("--a", metavar="NAME", help="the implementation taken as right (default: the pair's first)")
    add("--b", metavar="NAME", help="the one to be compared with it (default: the pair's second)")
    add(
        "--size", default="tiny", choices=["tiny", "awkward", "full"], help="awkward: widths that"
        " are no powers of two; full: needs its memory many times"
    )  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add(
        "--align-random",
        action=BooleanOptionalAction,
        default=True,
        help="let two sides that use random keys of their own draw the same numbers",
    )
    add("--restore", metavar="PATH", help="the parameters of a checkpoint, not fresh ones")
    add("--save", metavar="FILE", help="keep what --a computes, to be compared elsewhere, and end")
    add(
        "--against",
        metavar="'--set KEY=VALUE ...'",
        help="compare --a with itself under other settings (--set, --recipe, --devices)",
    )
    return arguments


def main(argv: list[str]) -> int:
    """Compares what the arguments say; 1 when there is a difference.

    Imports JAX only once nothing is left to be refused without it.
    """
    arguments = parser().parse_args(argv)
    _require_one_question(arguments)
    changed = _changed(arguments.against or "")
    _require(arguments, changed)
    from harness.bisecting import answering

    with Console() as console:
        asked = f"bisect {arguments.twins}, {arguments.case}, {arguments.size}"
        return answering.answered(arguments, changed, Phases(console, asked))


def _require(arguments: Namespace, changed: Namespace) -> None:
    """Raises UserError for what is not there, or not known."""
    for path in arguments.files:
        if not Path(path).exists():
            raise UserError(f"{path}: is not there")
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: was not written by harness bisect --save")
    if arguments.save is not None and not Path(arguments.save).absolute().parent.is_dir():
        raise UserError(
            f"--save {arguments.save}: there is no folder {Path(arguments.save).parent}"
        )
    if len(arguments.files) == 2:
        return
    if arguments.restore is not None:
        folders.require(arguments.restore)
    name = reading.given(arguments.case, arguments.twins)
    case = reading.load(name, arguments.size, arguments.set, twins=arguments.twins)
    reading.load(name, arguments.size, arguments.set + changed.set, changed.recipe, arguments.twins)
    pair = families.of(case)
    for option in ("a", "b"):
        families.require(pair, f"--{option}", getattr(arguments, option))
    if devices.platform() == "cpu":
        devices.cpu_count(changed.devices)


def _require_one_question(arguments: Namespace) -> None:
    if len(arguments.files) > 2:
        raise UserError(f"{' '.join(arguments.files)}: must be two files at most")
    asked = {
        "FILE": bool(arguments.files),
        "--save": arguments.save is not None,
        "--against": arguments.against is not None,
    }
    given = [name for name, is_asked in asked.items() if is_asked]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: give only one of them")
    if given and arguments.b is not None:
        raise UserError(f"{given[0]}: is of --a alone; leave out --b")


def _changed(words: str) -> Namespace:
    """The settings that --against holds."""
    arguments = cli.Parser(prog="--against", add_help=False)
    arguments.add_argument("--set", action="append", default=[])
    arguments.add_argument("--recipe", default="reference", choices=list(reading.RECIPES))
    arguments.add_argument("--devices", type=int)
    try:
        return arguments.parse_args(shlex.split(words))
    except ValueError as error:
        raise UserError(f"--against {words!r}: {error}") from None


if __name__ == "__main__":
    cli.main(main)
