"""Looks into checkpoints, without a model: `harness checkpoints inspect PATH`."""

import sys
from pathlib import Path

from harness.cases import families
from harness.records import storage
from harness.saving import folders
from harness.saving.faults import CheckpointError, Damaged
from harness.terminal import cli
from harness.terminal.console import Console


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness checkpoints",
        description="Looks into checkpoints. PATH is one step, or a folder of them.",
        epilog="Exit codes: 0 fine, 1 different or damaged, 2 bad input.",
    )
    verbs = arguments.add_subparsers(
        dest="verb", required=True, metavar="inspect | diff | verify | convert"
    )
    inspect = verbs.add_parser("inspect", help="the arrays of the newest step, and who wrote them")
    inspect.add_argument("paths", nargs=1, metavar="PATH")
    diff = verbs.add_parser("diff", help="which arrays of two newest steps differ, and by how much")
    diff.add_argument("paths", nargs=2, metavar="PATH")
    diff.add_argument(
        "--match",
        action="store_true",
        help="pair arrays by shape and value, as a converter leaves them under other names",
    )
    verify = verbs.add_parser("verify", help="whether every step still holds what was saved")
    verify.add_argument("paths", nargs=1, metavar="PATH")
    convert = verbs.add_parser("convert", help="the newest step under the names of a pair's side")
    convert.add_argument("paths", nargs=1, metavar="PATH")
    convert.add_argument("output", type=Path, metavar="OUTPUT", help="a folder that is not there")
    convert.add_argument("--twins", required=True, metavar="MODULE", help="the pair")
    convert.add_argument("--to", required=True, metavar="NAME", help="which side, such as nnx")
    convert.add_argument("--size", default="full", choices=["tiny", "full"],
        help="of the models, where the checkpoint does not tell")  # fmt: skip
    return arguments


def main(argv: list[str]) -> int:
    """Runs what the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    with storage.errors_told(" ".join(arguments.paths)):
        steps = [folders.steps(path) for path in arguments.paths]
        if arguments.verb == "convert":
            families.require(families.load(arguments.twins), "--to", arguments.to)
        from harness.saving import looking  # imports JAX

        try:
            with Console() as console:
                return looking.answered(arguments, steps, console)
        except (CheckpointError, Damaged) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    cli.main(main)
