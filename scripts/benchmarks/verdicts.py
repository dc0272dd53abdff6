"""Counts what the verdict of speed says of known pairs on a busy machine: --help shows how."""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import ROOT, Table, own_command, parser

from harness.comparing import comparison
from harness.comparing.model import Comparison
from harness.records import record
from harness.terminal import cli
from harness.terminal.errors import UserError

_ABOUT = """Two runs of each pair, then measured in turns again and again (`--in-turns`) beside
{load} processes that only count; the true ratio was measured before, beside none, in {quiet:g} s of
turns. Worse and better: verdicts of the step's speed; held: how often the 99 % interval held the
true ratio. Seconds: of the whole command, imports and compilation included.""".replace("\n", " ")


@dataclass(frozen=True)
class Pair:
    """Two runs that one command makes; across: the keys in which they differ on purpose.

    seconds: of turns at most, each time they are measured on the busy machine.
    """

    name: str
    command: tuple[str, ...]
    across: tuple[str, ...]
    seconds: float


_PAIRS = (
    Pair("one program twice", ("--case", "01_baseline", "--impl", "both"), (), 10),
    Pair(
        "the layers unrolled",
        ("--case", "01_baseline", "--impl", "nnx", "--against", "--set model.unroll=true"),
        ("case.config.model.unroll",),
        10,
    ),
    Pair(
        "one matmul in fourteen more",
        ("--twins", "more_work", "--impl", "both", "--set", "data.per_device_batch=256"),
        (),
        45,
    ),
)


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = parser("verdicts", "Counts right and wrong verdicts on a busy machine.", 40)
    arguments.add_argument("--load", type=int, default=2, metavar="N", help="busy processes")
    arguments.add_argument("--quiet-seconds", type=float, default=60, help="for the true ratio")
    given = arguments.parse_args(argv)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    about = _ABOUT.format(load=given.load, quiet=given.quiet_seconds)
    table = Table(given, "verdicts", "What the verdict of speed says on a busy machine", about)
    header = ["pair", "true ratio", "comparisons", "worse", "better", "held"]
    rows: list[list[str]] = []
    for pair in _PAIRS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_row(pair, Path(folder), given, table))
        table.write([*header, "interval, half", "seconds, median", "longest"], rows)
    return 0


def _row(pair: Pair, results: Path, given: Namespace, table: Table) -> list[str]:
    alone = results / "alone"
    saves_nothing = ("--set", "checkpoint.enabled=false")
    made = _run(alone, *pair.command, *saves_nothing, "--steps", "80", "--no-turns")
    names = [place.parent.name for place in made[-2:]]

    def measured(folder: Path, *limits: str) -> Comparison:
        """Of the two runs as they were before any turns: what was measured before is kept."""
        shutil.copytree(alone, folder)
        _run(folder, "--in-turns", *names, *limits)
        return _compared(pair, [folder / name / "record.json" for name in names])

    quiet = ("--precision", "0.2", "--turns-seconds", str(given.quiet_seconds))
    true = _ratio(measured(results / "quiet", *quiet))
    told, seconds = [], []
    with _busy(given.load):
        for repeat in range(given.repeats):
            begun = time.perf_counter()
            told.append(measured(results / str(repeat), "--turns-seconds", str(pair.seconds)))
            seconds.append(time.perf_counter() - begun)
    ratios = [_ratio(one) for one in told]
    outcomes = [_outcome(one) for one in told]
    table.samples[pair.name] = {
        "true": true, "ratios": ratios, "outcomes": outcomes, "seconds": seconds,
    }  # fmt: skip
    return [
        f"{pair.name}, {pair.seconds:g} s of turns",
        f"{true[1]:.4f} ({true[0]:.4f} to {true[2]:.4f})",
        str(len(told)),
        str(outcomes.count("worse")),
        str(outcomes.count("better")),
        str(sum(low <= true[1] <= high for low, _, high in ratios)),
        f"{100 * statistics.median((high - low) / 2 for low, _, high in ratios):.1f} %",
        f"{statistics.median(seconds):.0f}",
        f"{max(seconds):.0f}",
    ]


def _run(results: Path, *arguments: str) -> list[Path]:
    """Runs a command of ours to its end; the records that it names. UserError if it fails."""
    ended = subprocess.run(
        own_command(results, "--size", "tiny", *arguments), cwd=ROOT, capture_output=True, text=True
    )
    if ended.returncode:
        raise UserError(f"{' '.join(arguments)}: {ended.stderr.strip() or ended.stdout[-200:]}")
    lines = ended.stdout.splitlines()
    return [Path(line.removeprefix("record: ")) for line in lines if line.startswith("record: ")]


def _compared(pair: Pair, places: Sequence[Path]) -> Comparison:
    a, b = (record.read(place) for place in places)
    return comparison.compare([a], [b], pair.across)


def _outcome(compared: Comparison) -> str:
    return next(one.outcome for one in compared.verdicts if one.area == "speed")


def _ratio(compared: Comparison) -> tuple[float, float, float]:
    """Of B to A: the interval's low end, the ratio, the high end; without an interval all three."""
    found = compared.speed.ratio
    if compared.speed.by != "turns" or found is None:
        raise UserError("not measured in turns")
    if found.low is None or found.high is None:
        return found.value, found.value, found.value
    return found.low, found.value, found.high


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but count, at their side."""
    counting = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


if __name__ == "__main__":
    cli.main(main)
