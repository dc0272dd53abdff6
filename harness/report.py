"""Makes pages of records: `harness report --output build/report`."""

import sys
from pathlib import Path

from harness.terminal import cli
from harness.terminal.console import Console


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness report",
        description="Makes static pages of records: an overview, a page for each case and run, and"
        " the history of their figures. The pages ask no network for anything.",
        epilog="Records that cannot be read are named and left out."
        " Exit codes: 0 fine, 2 bad input.",
    )
    add = arguments.add_argument
    add("results", nargs="*", type=Path, default=[Path("results")], metavar="RESULTS",
        help="records, or folders of them (default: results, and the published in it)")  # fmt: skip
    add("--output", type=Path, required=True, metavar="DIR", help="a folder of its own; a former"
        " report in it is replaced")  # fmt: skip
    return arguments


def main(argv: list[str]) -> int:
    """Writes the report; returns the exit code."""
    arguments = parser().parse_args(argv)
    from harness.pages import gathering, site  # import much, which help and bad input do not need

    site.check(arguments.output)  # refused now, not after all is read
    with Console() as console:
        console.begin("read and compare the records", announced=False)
        collection = gathering.gather(arguments.results)
        console.end()
        for warning in collection.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        console.begin("write the pages", announced=False)
        site.write(collection, arguments.output, console)
    print(f"report: {arguments.output / 'index.html'}")
    return 0


if __name__ == "__main__":
    cli.main(main)
