"""Shows what compiling and a step cost as one thing of a case grows: --help shows how."""

import tempfile
from pathlib import Path

from measuring import Table, median, own_run, parser, ratio

from harness.terminal import cli

# What all runs of a case say beside the setting that grows.
_CASES = {
    "01_baseline": ["data.per_device_batch=2"],
    "20_honeycrisp": ["data.global_batch=null", "data.per_device_batch=2"],
    "30_pipeline": ["parallel.tensor=1", "data.per_device_batch=8", "data.microbatches=8"],
}
_DEVICES, _STAGES = "devices", "stages"  # each stage on a device of its own
_GROWTH = {  # eightfold: what grows as it does, and what as its square, are told apart
    _DEVICES: (1, 8),
    _STAGES: (1, 2, 4, 8),
    "layers": (8, 64),
    "sequence": (64, 512),
}
_KEYS = {"layers": "model.layers", "sequence": "data.sequence_length"}
_STAGED = ("30_pipeline",)
_IMPLS = ("linen", "nnx")
_PARTS = {
    "trace": ("trace and lower s", 1.0),
    "compile": ("compile s", 1.0),
    "step": ("step ms", 1e-3),
}
_ABOUT = """One setting of a case grows, the others stay those of the tiny size; devices are forced
on one CPU and share its cores, and have 2 sequences each, those of case 30 together 8 microbatches
a pipeline. Each run is a fresh process with an empty compilation cache; both implementations take
turns. Medians, with the number of runs. XLA computes bfloat16 as float32 on a CPU: to put one
layer's gradient beside the others' it converts all of them, once a layer, so that a step grows
faster than its layers: that of case 20 on one device 14 times from 8 to 64, and 11 times in
float32.""".replace("\n", " ")


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = parser("growth", "Times compilation and steps at growing settings.", 1)
    arguments.add_argument("--cases", nargs="+", default=[*_CASES], choices=[*_CASES])
    arguments.add_argument("--only", nargs="+", default=[*_GROWTH], choices=[*_GROWTH])
    given = arguments.parse_args(argv)
    table = Table(given, "growth", "Growth of each family, tiny, on a CPU", _ABOUT)
    rows = []
    for case in given.cases:
        for name in given.only:
            for value in _GROWTH[name] if name != _STAGES or case in _STAGED else ():
                seconds = _measure(case, name, value, given.repeats, table)
                table.samples[f"{case}, {name} {value}"] = seconds
                cells = [
                    median(seconds[f"{impl} {part}"], unit)
                    for part, (_, unit) in _PARTS.items()
                    for impl in _IMPLS
                ]
                steps = ratio(seconds["nnx step"], seconds["linen step"])
                rows.append([f"{case}, {name} {value}", *cells, steps])
    header = [f"{words}, {impl}" for words, _ in _PARTS.values() for impl in ("Linen", "NNX")]
    table.write(["case, setting", *header, "step NNX / Linen"], rows)
    return 0


def _measure(
    case: str, name: str, value: int, repeats: int, table: Table
) -> dict[str, list[float]]:
    """The samples of one setting, by "linen step" and so on, in seconds."""
    stages = value if name == _STAGES else 1
    told = [*_CASES[case], *([f"parallel.stage={stages}"] if case in _STAGED else [])]
    told += [f"{_KEYS[name]}={value}"] if name in _KEYS else []
    devices = str(value if name in (_DEVICES, _STAGES) else 1)
    settings = [word for key in [*told, "checkpoint.enabled=false"] for word in ("--set", key)]
    same = ["--case", case, "--size", "tiny", "--steps", "12", "--devices", devices, *settings]
    seconds: dict[str, list[float]] = {f"{impl} {part}": [] for impl in _IMPLS for part in _PARTS}
    for _ in range(repeats):
        for impl in _IMPLS:
            with tempfile.TemporaryDirectory(prefix="growth-") as folder:
                _, record = own_run(Path(folder), "--impl", impl, *same)
            timing = record["timing"]
            seconds[f"{impl} trace"].append(timing["trace_seconds"] + timing["lower_seconds"])
            seconds[f"{impl} compile"].append(timing["compile_seconds"])
            seconds[f"{impl} step"].append(timing["step_seconds"]["median"])
            table.environment = record["environment"]
    return seconds


if __name__ == "__main__":
    cli.main(main)
