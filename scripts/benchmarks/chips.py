"""Shows what a step costs to compile and to read as chips grow to 1,024: --help shows how."""

import os
import sys
import tempfile
import time

from measuring import Table, parser

from harness.cases import reading
from harness.records.record import Record
from harness.slices import forecast, topology
from harness.terminal import cli

# Wide enough to be divided by all chips, and, of the pipeline, for libtpu to find tiles.
_WIDE = ["model.embed=1024", "model.mlp=1024", "model.head_dim=128", "data.sequence_length=256"]
_CASES = {
    "01_baseline": ["model.embed=1024"],
    "20_honeycrisp": ["model.embed=1024", "model.vocab=1024", "eval.every=null"],
    "30_pipeline": ["model.dtype=bfloat16", "model.layers=4", *_WIDE],
}
_SLICES = ["v6e-8", "v6e-256", "4xv6e-256", "v5p-2048"]
_PHASES = ("compile", "read the program")  # those after the program is traced and lowered
_ABOUT = """One step of NNX's implementation, tiny but for a width that all chips can divide,
compiled by libtpu for slices that are not there; the same batch on each device. Read: the compiled
program parsed, its collectives and memory put on record, and a step predicted for one slice. One
run each, in one process, nothing taken from a cache.""".replace("\n", " ")


def main(argv: list[str]) -> int:
    """Compiles, measures and writes the table; returns the exit code."""
    arguments = parser("chips", "Times compiling and reading as chips grow.", 1)
    arguments.add_argument("--cases", nargs="+", default=[*_CASES], choices=[*_CASES])
    arguments.add_argument("--slices", nargs="+", default=_SLICES, metavar="SLICE")
    given = arguments.parse_args(argv)
    slices = [topology.find(name) for name in given.slices]
    table = Table(given, "chips", "Compiling as chips grow", _ABOUT)
    rows = []
    with tempfile.TemporaryDirectory(prefix="chips-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for case in given.cases:
            for on in slices:
                record, seconds = _compiled(case, on)
                name = f"{case}, {on.name}"
                table.samples[name] = {"seconds": seconds, "program": record["program"]}
                table.environment = record["environment"]
                rows.append([name, str(on.chips), *_figures(record, seconds)])
    header = ["case, slice", "chips", "trace and lower s", "compile s", "read s"]
    table.write([*header, "collectives", "wire GB", "step s, predicted"], rows)
    return 0


def _compiled(case: str, on: topology.Slice) -> tuple[Record, dict[str, float]]:
    """The record of a step compiled for a slice, and the seconds of each phase."""
    seconds: dict[str, float] = {}
    now, begun = "", 0.0

    def phase(name: str) -> None:
        nonlocal now, begun
        if now:
            seconds[now] = time.perf_counter() - begun
        now, begun = name, time.perf_counter()
        print(f"{case} on {on.name}: {name}", file=sys.stderr)

    settings = reading.load(case, "tiny", _CASES[case])
    if settings.parallel.data != -1:  # nothing but gradients passes between slices
        several = f"parallel.data={on.count}"
        settings = reading.load(case, "tiny", [*_CASES[case], several])
    made = forecast.make(forecast.Question(settings, "tiny", "reference", "nnx", on), phase, None)
    phase("done")
    return made.record, seconds


def _figures(record: Record, seconds: dict[str, float]) -> list[str]:
    """The cells of a row; "-" for what is not known, as of a program that does not fit."""
    times = [seconds["trace"] + seconds["lower"], *(seconds.get(name) for name in _PHASES)]
    program, step = record["program"], record["prediction"]["step_seconds"]
    collectives = program["collectives"]
    return [
        *("-" if one is None else f"{one:.1f}" for one in times),
        "-" if not collectives else str(sum(one["count"] for one in collectives.values())),
        "-" if program["wire_bytes"] is None else f"{program['wire_bytes'] / 1e9:.2f}",
        "-" if step is None else f"{step:.3f}",
    ]


if __name__ == "__main__":
    cli.main(main)
