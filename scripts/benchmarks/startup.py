"""Takes the way to the first step apart, on a CPU at the tiny size: --help shows how."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Table, median, own_run, parser

from harness.terminal import cli

# Each with all before it: a command's help and refusals need harness.run, a run the last one.
_IMPORTS = (
    "pass",
    "import jax",
    "import flax",
    "import optax",
    "import harness.run",
    "import harness.training.session",
)
_PHASES = ("import", "trace", "lower", "compile", "init", "first_step")
_ABOUT = """Fresh processes; `import` is all imports together, from the start of the process.
Cold: an empty compilation cache; warm: the one that the cold run left. Medians in seconds, with the
number of samples. The initial state is compiled while the step is traced and compiled, and `init`
is what of it is left to wait for.""".replace("\n", " ")


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = parser("startup", "Times imports and the phases of a start.", 3)
    arguments.add_argument("--case", default="03_dropout")
    given = arguments.parse_args(argv)
    table = Table(given, "startup", f"Start-up of {given.case}, tiny, on a CPU", _ABOUT)
    runs: dict[str, list[dict[str, float]]] = {}
    imports: dict[str, list[float]] = {code: [] for code in _IMPORTS}
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        for repeat in range(given.repeats):
            for code in _IMPORTS:
                begun = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], check=True)
                imports[code].append(time.perf_counter() - begun)
            for impl in ("linen", "nnx"):
                for cache in ("cold", "warm"):
                    tiny = ["--case", given.case, "--impl", impl, "--size", "tiny", "--steps", "4"]
                    where = Path(folder, f"{impl}-{repeat}")
                    off = ["--set", "checkpoint.enabled=false"]
                    seconds, record = own_run(where, *tiny, *off)
                    timing = {phase: record["timing"][f"{phase}_seconds"] for phase in _PHASES}
                    runs.setdefault(f"{impl}, {cache}", []).append(timing | {"start": seconds})
                    table.environment = record["environment"]
    table.samples = {"imports": imports, "runs": runs}
    phases = [*_PHASES, "start"]
    rows = [
        [who, *(median([sample[phase] for sample in samples]) for phase in phases)]
        for who, samples in runs.items()
    ]
    for code, samples in imports.items():
        name = "python alone" if code == "pass" else code
        rows.append([name, median(samples), *[""] * (len(phases) - 1)])
    table.write(["process", *(phase.replace("_", " ") for phase in phases)], rows)
    return 0


if __name__ == "__main__":
    cli.main(main)
