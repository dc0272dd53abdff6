"""Shows what compiling and a step cost as devices, layers and sequence grow: --help shows how."""

import tempfile
from pathlib import Path

from measuring import Table, median, own_run, parser, ratio

from harness.terminal import cli

_GROWTH = {
    "devices": ("--devices", "", (1, 2, 4, 8)),
    "layers": ("--set", "model.layers=", (2, 4, 8, 16)),
    "sequence": ("--set", "data.sequence_length=", (64, 128, 256, 512)),
}
_IMPLS = ("linen", "nnx")
_ABOUT = """One setting grows, the others stay those of the tiny size, with 2 sequences a device;
devices are forced on one CPU and share its cores. Each run is a fresh process with an empty
compilation cache; both implementations take turns. Medians, with the number of runs.""".replace(
    "\n", " "
)


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = parser("growth", "Times compilation and steps at growing settings.", 1)
    arguments.add_argument("--case", default="01_baseline")
    arguments.add_argument("--only", nargs="+", default=list(_GROWTH), choices=list(_GROWTH))
    given = arguments.parse_args(argv)
    table = Table(given, "growth", f"Growth of {given.case}, tiny, on a CPU", _ABOUT)
    rows = []
    for name in given.only:
        option, key, values = _GROWTH[name]
        for value in values:
            grown = [option, f"{key}{value}"]
            seconds = _measure([*grown, "--case", given.case], given.repeats, table)
            table.samples[f"{name} {value}"] = seconds
            rows.append(
                [
                    f"{name} {value}",
                    *(
                        median(seconds[f"{impl} {part}"], *scale)
                        for part, scale in (
                            ("trace", (1, 2)),
                            ("compile", (1, 2)),
                            ("step", (1e-3, 2)),
                        )
                        for impl in _IMPLS
                    ),
                    ratio(seconds["nnx step"], seconds["linen step"]),
                ]
            )
    parts = ("trace and lower s", "compile s", "step ms")
    header = [f"{part}, {impl}" for part in parts for impl in ("Linen", "NNX")]
    table.write(["setting", *header, "step NNX / Linen"], rows)
    return 0


def _measure(told: list[str], repeats: int, table: Table) -> dict[str, list[float]]:
    """The samples of one setting, by "linen step" and so on, in seconds."""
    seconds: dict[str, list[float]] = {
        f"{impl} {part}": [] for impl in _IMPLS for part in ("trace", "compile", "step")
    }
    same = ["--size", "tiny", "--steps", "30", "--set", "data.per_device_batch=2"]
    for _ in range(repeats):
        for impl in _IMPLS:
            with tempfile.TemporaryDirectory(prefix="growth-") as folder:
                off = ["--set", "checkpoint.enabled=false"]
                _, record = own_run(Path(folder), "--impl", impl, *told, *same, *off)
            timing = record["timing"]
            seconds[f"{impl} trace"].append(timing["trace_seconds"] + timing["lower_seconds"])
            seconds[f"{impl} compile"].append(timing["compile_seconds"])
            seconds[f"{impl} step"].append(timing["step_seconds"]["median"])
            table.environment = record["environment"]
    return seconds


if __name__ == "__main__":
    cli.main(main)
