"""Says what is found on this machine, and how to mend what is wrong: `harness doctor`."""

from pathlib import Path

from harness.records import storage
from harness.terminal import cli
from harness.training import devices


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness doctor",
        description="Says what is found on this machine or slice, tries it with a tiny case, and"
        " names for each fault what mends it. On several hosts each runs the same command.",
        epilog="Exit codes: 0 all is well, 1 something is not, 2 bad input.",
    )
    devices.add_options(arguments)
    arguments.add_argument("--results-dir", type=storage.place, default=Path("results"))
    return arguments


def main(argv: list[str]) -> int:
    """Examines one thing after the other; returns the exit code."""
    arguments = parser().parse_args(argv)
    processes = devices.told(arguments)
    from harness.training import machine  # imports JAX

    return machine.examine(processes, arguments.results_dir)


if __name__ == "__main__":
    cli.main(main)
