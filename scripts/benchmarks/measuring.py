"""What the benchmarks share: the processes they time, what is said of samples, where it is kept."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.records import environment, record
from harness.terminal import cli
from harness.terminal.errors import UserError

ROOT = Path(__file__).parents[2]
_FIRST_STEP = "completed step: 0,"  # so do both programs print it
_BUSY_SHARE = 0.25  # of the cores, by others, before the first measurement


def parser(script: str, description: str, repeats: int) -> cli.Parser:
    """The arguments that all benchmarks have."""
    arguments = cli.Parser(prog=f"python scripts/benchmarks/{script}.py", description=description)
    folder = ROOT / "results" / "reference" / "benchmarks"
    arguments.add_argument("--output", type=Path, default=folder, help="folder of the results")
    arguments.add_argument(
        "--repeats", type=_at_least_one, default=repeats, metavar="N", help="of each measurement"
    )
    return arguments


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)


class Table:
    """One table: what it rests on, its rows, and every sample behind them."""

    def __init__(self, arguments: argparse.Namespace, name: str, title: str, about: str) -> None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        self._path = arguments.output / name
        self._title, self._about = title, about
        self.environment: dict[str, Any] = environment.collect([])
        self.samples: dict[str, Any] = {}
        self.warnings: list[str] = []
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        self._machine = {"cpu": _cpu(), "cores": cores, "load_before": round(load, 2)}
        if load > _BUSY_SHARE * cores:
            self.warn(f"the machine was busy before the first run (load {load:.1f}, {cores} cores)")

    def warn(self, text: str) -> None:
        """Says now, and in the results, what a reader must know."""
        print(f"warning: {text}", file=sys.stderr)
        self.warnings.append(text)

    def write(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints the table and writes it as Markdown, and with all samples as JSON."""
        table = _markdown(header, rows)
        print(table)
        about = {key: value for key, value in self.environment.items() if key != "hostname"}
        versions = ", ".join(
            f"{key} {about[key]}" for key in ("python", "jax", "jaxlib", "flax") if about.get(key)
        )
        machine = ", ".join(f"{key} {value}" for key, value in self._machine.items())
        lines = [f"# {self._title}", self._about, table]
        lines += [f"Warning: {warning}." for warning in self.warnings]
        lines.append(f"Measured {about['time']}: {versions}; {machine}.")
        self._path.with_suffix(".md").write_text("\n\n".join(lines) + "\n")
        document = {
            "environment": about,
            "machine": self._machine,
            "warnings": self.warnings,
            "table": [dict(zip(header, row, strict=True)) for row in rows],
            "samples": self.samples,
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        self._path.with_suffix(".json").write_text(text + "\n")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def median(samples: Sequence[float], unit: float = 1.0, digits: int = 2) -> str:
    """The samples' median in a unit, with their number; "-" without any."""
    if not samples:
        return "-"
    return f"{statistics.median(samples) / unit:.{digits}f} ({len(samples)})"


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """The median of the ratios of what was measured side by side; "-" without any."""
    pairs = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return f"{statistics.median(pairs):.3f}" if pairs else "-"


def start_seconds(command: Sequence[str], changes: Mapping[str, str]) -> float:
    """Seconds from starting a training process until it says that its first step is done.

    The process then runs to its end. Raises UserError with its last line when it fails.
    """
    begun, seconds, last = time.perf_counter(), None, ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if seconds is None and _FIRST_STEP in line:
                seconds = time.perf_counter() - begun
            last = line.strip() or last
    if process.returncode or seconds is None:
        raise UserError(f"{' '.join(command[:4])} ... failed: {last}")
    return seconds


def own_command(results: Path, *arguments: str) -> list[str]:
    """The command of a run of ours; `read_run` finds what it leaves."""
    return [sys.executable, "-m", "harness.run", "--results-dir", str(results), *arguments]


def own_run(folder: Path, *arguments: str) -> tuple[float, record.Record]:
    """Runs with an empty cache in `folder`: seconds to the first step, and the record."""
    results = folder / "results"
    changes = {"XDG_CACHE_HOME": str(folder / "cache")}
    seconds = start_seconds(own_command(results, *arguments), changes)
    newest = max(results.glob("*/record.json"), key=lambda path: path.stat().st_mtime)
    return seconds, record.read(newest)


class Worker:
    """A process that keeps a compiled step and runs as many of them as it is told, one by one."""

    def __init__(self, command: Sequence[str], changes: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **changes},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def steps(self, count: int) -> list[float]:
        """The seconds of each of `count` steps, the device idle before each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("seconds: "):  # whatever else it prints is not for us
                seconds: list[float] = json.loads(line.removeprefix("seconds: "))
                return seconds
        raise UserError(f"{' '.join(map(str, self._process.args[:3]))} ... ended early")  # type: ignore[index]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
