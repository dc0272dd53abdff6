"""Measures the full size on this machine's GPU: --help shows how."""

import glob
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Table, own_run, parser

from harness.records.record import Record
from harness.terminal import cli
from harness.terminal.errors import UserError

_ABOUT = """T 2048, one device, checkpoints off. TFLOP/s and MFU count the matrix products of the
model once, recomputation not, against the published dense bf16 peak. Each row is the best of the
batches that fit; the samples hold them all.""".replace("\n", " ")
# A large bf16 matmul, timed over a chain of 20, in a process of its own that frees the device.
_MATMUL = """
import json, time, jax, jax.numpy as jnp
N = 16384
a = jnp.full((N, N), 1 / N, jnp.bfloat16)
chain = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, x: x @ a, x))
chain(a).block_until_ready()
times = []
for _ in range(5):
    begun = time.perf_counter()
    chain(a).block_until_ready()
    times.append(time.perf_counter() - begun)
print(json.dumps([20 * 2 * N**3 / 1e12 / seconds for seconds in times]))
"""


def main(argv: list[str]) -> int:
    """Measures and writes the table; returns the exit code."""
    arguments = parser("gpu", "Measures rates, memory and losses on a GPU.", 1)
    add = arguments.add_argument
    add("--cases", nargs="+", default=["01_baseline", "04_int8", "05_fp8"], metavar="CASE")
    add("--batches", nargs="+", type=int, default=[2, 4, 8, 16, 32], metavar="N")
    add("--impl", default="nnx", choices=["linen", "nnx"])
    add("--steps", type=int, default=20, metavar="N", help="of each run")
    given = arguments.parse_args(argv)
    if not glob.glob("/dev/nvidia[0-9]*"):
        raise UserError("there is no GPU here: gpu.py measures the full size on one")
    table = Table(given, "gpu", "Full size on a GPU", _ABOUT)
    told = subprocess.run([sys.executable, "-c", _MATMUL], capture_output=True, text=True)
    if told.returncode:
        raise UserError(f"the matmul failed: {told.stderr.strip().splitlines()[-1]}")
    matmul: list[float] = json.loads(told.stdout)
    table.samples["matmul_tflops"] = matmul
    rate = sorted(matmul)[len(matmul) // 2]
    print(f"a bf16 matmul of 16384 x 16384: {rate:.0f} TFLOP/s", file=sys.stderr)
    rows, first = [], None
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:

        def run(case: str, recipe: str, batch: int, steps: int) -> Record | None:
            """A run's record, kept; None when it failed, as one that does not fit does."""
            same = ["--case", case, "--impl", given.impl, "--size", "full", "--recipe", recipe]
            more = [f"data.per_device_batch={batch}", "checkpoint.enabled=false"]
            keys = [argument for key in more for argument in ("--set", key)]
            name = f"{case}, {recipe}, batch {batch}, {steps} steps"
            print(name, file=sys.stderr)
            try:
                _, record = own_run(Path(folder), *same, "--steps", str(steps), *keys)
            except UserError as error:
                table.samples[name] = {"error": str(error)}
                return None
            parts = ("timing", "memory", "model", "steps")
            table.samples[name] = {part: record[part] for part in parts}
            table.environment = record["environment"]
            return record

        for case in given.cases:
            both = [run(case, recipe, given.batches[0], 10) for recipe in ("reference", "fast")]
            for recipe in ("reference", "fast"):
                tried = [(batch, run(case, recipe, batch, given.steps)) for batch in given.batches]
                fitting = [(batch, record) for batch, record in tried if record is not None]
                if not fitting:
                    table.warn(f"{case}, {recipe}: no batch ran")
                    continue
                batch, best = max(fitting, key=lambda one: one[1]["timing"]["tflops_per_device"])
                first = first or best["timing"]["tflops_per_device"]
                told_apart = _loss_difference(both) if recipe == "fast" else ""
                figures = _figures(best, rate, first)
                rows.append([f"{case}, {recipe}", str(batch), *figures, told_apart])
    header = ["case, recipe", "batch", "step ms", "TFLOP/s", "MFU %", "of the matmul %", "peak GiB"]
    header += ["times the first row", "loss apart from reference, 10 steps"]
    table.write(header, rows)
    return 0


def _figures(record: Record, matmul: float, first: float) -> list[str]:
    timing, memory = record["timing"], record["memory"]
    rate, mfu, peak = (
        timing["tflops_per_device"],
        timing["mfu_percent"],
        memory["peak_in_use_bytes"],
    )
    return [
        f"{timing['step_seconds']['median'] * 1e3:.1f} ({timing['step_seconds']['samples']})",
        f"{rate:.0f}",
        "-" if mfu is None else f"{mfu:.1f}",
        f"{100 * rate / matmul:.0f}",
        "-" if peak is None else f"{peak / 2**30:.1f}",
        f"{rate / first:.2f}",
    ]


def _loss_difference(runs: list[Record | None]) -> str:
    """The largest difference of two runs' losses, step by step."""
    reference, fast = runs
    if reference is None or fast is None:
        return "-"
    pairs = zip(reference["steps"], fast["steps"], strict=True)
    return f"{max(abs(a['loss'] - b['loss']) for a, b in pairs):.2g}"


if __name__ == "__main__":
    cli.main(main)
