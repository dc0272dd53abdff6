"""Says what differs between two runs, and how surely: `harness compare A B`."""

import sys
from pathlib import Path

from harness.comparing import badge, comparison, comparison_text, compiled
from harness.comparing.model import USUAL, Comparison, Limits
from harness.records import finding
from harness.terminal import cli, outputs
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.terminal.text import safe

_REGRESSION, _NOT_COMPARABLE, _UNDECIDED = 1, 3, 3


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness compare",
        description="Says what differs between the runs A and B, and how surely. Each is a run id,"
        " a record file, a run's folder, a folder of repeats (FOLDER:impl for one"
        " implementation's), or case:impl for the latest run.",
        epilog="Intervals are of 99 % confidence. Exit codes: 0 fine, 2 bad input; with --gate also"
        " 1 B is worse than A, and 3 not comparable, one run a side, which does not show speed, or"
        " numbers that do not show whether the two are one. What else is not enough to say is told"
        " and does not fail the gate.",
    )
    add = arguments.add_argument
    add("a", metavar="A", help="the baseline")
    add("b", metavar="B", help="what is compared with it")
    add("--twins", metavar="MODULE", help="whose runs case:impl means (default: the project's own)")
    add("--results-dir", type=Path, default=Path("results"), help="where run ids are looked up")
    add("--across", action="append", default=[], metavar="KEY", help="a difference that is the"
        " point, such as environment.jax, recipe or case.config.checkpoint.async")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all that is known of the comparison")
    add(
        "--markdown", metavar="FILE", help="write a comment for a pull request; -: print it instead"
    )
    add(
        "--page", type=Path, metavar="FILE", help="write a page that holds all it needs, to be sent"
    )
    add("--badge", type=Path, metavar="FILE", help="write the answer as a small image, SVG")
    add("--benchmark", type=Path, metavar="FILE", help="write B's figures for"
        " github-action-benchmark, customSmallerIsBetter")  # fmt: skip
    add("--gate", action="store_true", help="fail when B is worse than A, or not comparable")
    add("--max-slowdown-percent", type=float, default=USUAL.slowdown_percent, metavar="PERCENT",
        help="smaller differences of speed do not matter (default: %(default)g)")  # fmt: skip
    add("--max-memory-percent", type=float, default=USUAL.memory_percent, metavar="PERCENT",
        help="how much more memory may be needed (default: %(default)g)")  # fmt: skip
    add("--max-loss-difference", type=float, default=USUAL.loss_difference, metavar="LOSS",
        help="how far losses may lie apart (default: 0, every bit counts)")  # fmt: skip
    return arguments


def main(argv: list[str]) -> int:
    """Compares what the arguments name; returns the exit code."""
    arguments = parser().parse_args(argv)
    limits = Limits(
        arguments.max_slowdown_percent, arguments.max_memory_percent, arguments.max_loss_difference
    )
    for name, value in vars(limits).items():
        if not 0 <= value < float("inf"):
            raise UserError(f"--max-{name.replace('_', '-')} {value}: must be a number, at least 0")
    files = {
        path: text
        for path, text in (
            (arguments.json, comparison_text.as_json),
            (arguments.benchmark, comparison_text.benchmark),
            (arguments.page, _page),
            (arguments.badge, badge.badge),
            (_file(arguments.markdown), comparison_text.markdown),
        )
        if path is not None
    }
    for path in files:
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    with Console() as console:
        console.begin("read", announced=False)
        a, warnings_a = finding.find(arguments.a, arguments.results_dir, arguments.twins)
        b, warnings_b = finding.find(arguments.b, arguments.results_dir, arguments.twins)
        programs, warnings = compiled.read(a[0], b[0])
        console.begin("compare", announced=False)
        records_a, records_b = ([found.record for found in side] for side in (a, b))
        compared = comparison.compare(records_a, records_b, arguments.across, limits, programs)
    for warning in [*warnings_a, *warnings_b, *warnings]:
        print(f"warning: {safe(warning, 400)}", file=sys.stderr)
    if arguments.markdown == "-":
        print(comparison_text.markdown(compared), end="")
    else:
        print(comparison_text.terminal(compared))
    for path, text in files.items():
        outputs.write(path, text(compared))
    return _gate(compared) if arguments.gate else 0


def _page(compared: Comparison) -> str:
    from harness.pages import comparison_page  # imports much, for a page alone

    return comparison_page.page(compared)


def _file(markdown: str | None) -> Path | None:
    return None if markdown in (None, "-") else Path(str(markdown))


def _gate(compared: Comparison) -> int:
    if not compared.comparable:
        print("gate: failed, not comparable")
        return _NOT_COMPARABLE
    worse = [verdict.area for verdict in compared.verdicts if verdict.regression]
    if worse:
        print(f"gate: failed, {compared.names[1]} is worse in {', '.join(worse)}")
        return _REGRESSION
    if compared.doubtful:
        print("gate: not decided, the numbers do not show whether the two are one: see the verdict")
        return _UNDECIDED
    if compared.undecided:
        print("gate: not decided, one run a side does not show speed: see the verdict")
        return _UNDECIDED
    open_ = [one.area for one in compared.verdicts if one.outcome in ("unclear", "unknown")]
    print("gate: passed" + (f"; not known: {', '.join(open_)}" if open_ else ""))
    return 0


if __name__ == "__main__":
    cli.main(main)
