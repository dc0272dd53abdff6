"""Measures both implementations at full size on this machine's GPU: --help shows how."""

import glob
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import ROOT, Table, own_run, parser

from harness.records import record as record_module
from harness.records.record import Record
from harness.terminal import cli
from harness.terminal.errors import UserError
from harness.terminal.text import gib

_CASES = ["01_baseline", "03_dropout", "04_int8", "05_fp8", "08_checkpoint_async_true"]
_IMPLS = ("linen", "nnx")
_USUAL_BATCH = 8  # sequences a step of a case that nobody published
_AT_ONCE = 8  # of them, as far as a device has memory for the full size
_SAVES = "08_checkpoint_async_true"
_ABOUT = """One device, which computes the batch that all chips of the published runs computed, in
parts; checkpoints are off but for case 08. MFU counts the matrix products of the model once,
recomputation not, against the published dense bf16 peak; beside it the share of what a large matmul
reaches here. Blocking: for how long a save stops training. The losses are those of the last of 10
steps, from other weights and data than the published ones.""".replace("\n", " ")
# A large bf16 matmul, timed over a chain of 20, in a process of its own that frees the device.
_MATMUL = """
import json, sys, time, jax, jax.numpy as jnp
N = int(sys.argv[1])
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
    """Measures and writes the table and a record of each run; returns the exit code."""
    arguments = parser("gpu", "Measures rates, memory, saves and losses on a GPU.", 1)
    add = arguments.add_argument
    add("--size", default="full", choices=["tiny", "full"], help="tiny: tries it all on a CPU")
    add("--cases", nargs="+", default=_CASES, choices=_CASES, metavar="CASE")
    add("--recipe", default="reference", choices=["reference", "fast"])
    add("--minutes", type=float, default=60.0, metavar="N", help="no run begins after so long")
    given = arguments.parse_args(argv)
    end = time.monotonic() + 60 * given.minutes
    if given.size == "full" and not glob.glob("/dev/nvidia[0-9]*"):
        raise UserError("there is no GPU here: --size tiny tries it all on a CPU")
    table = Table(given, "gpu", f"{given.size.capitalize()} size on one device", _ABOUT)
    rate = _matmul_rate(16384 if given.size == "full" else 256, table)
    rows = []
    for case in given.cases:
        batch, published = _published(case)
        beside = published if given.size == "full" else "-"
        for impl in _IMPLS:
            if time.monotonic() > end:
                table.warn(f"{case}, {impl}: not measured within {given.minutes:g} minutes")
                continue
            print(f"{case}, {impl}", file=sys.stderr)
            try:
                record = _run(case, impl, batch, given.size, given.recipe)
            except UserError as error:
                table.warn(f"{case}, {impl}: {error}")
                continue
            kept = given.output / "gpu" / f"{case}-{impl}"
            kept.mkdir(parents=True, exist_ok=True)
            record_module.write(kept / "record.json", record)
            table.environment = record["environment"]
            rows.append([f"{case}, {impl}", str(batch), *_figures(record, rate), beside])
    header = ["case, implementation", "sequences", "step ms", "TFLOP/s", "MFU %", "of the matmul %"]
    table.write([*header, "peak GiB", "blocking s", "loss", "published"], rows)
    return 0 if rows else 1


def _matmul_rate(width: int, table: Table) -> float:
    """TFLOP/s of a large product."""
    command = [sys.executable, "-c", _MATMUL, str(width)]
    told = subprocess.run(command, capture_output=True, text=True)
    if told.returncode:
        raise UserError(f"the matmul failed: {told.stderr.strip().splitlines()[-1]}")
    table.samples["matmul_tflops"] = json.loads(told.stdout)
    rate = statistics.median(table.samples["matmul_tflops"])
    print(f"a bf16 matmul of {width} x {width}: {rate:.3g} TFLOP/s", file=sys.stderr)
    return rate


def _published(case: str) -> tuple[int, str]:
    """The sequences of a step that others published, and the loss after the last."""
    for path in sorted((ROOT / "results/reference/published").glob(f"*-{case}-*/record.json")):
        found = record_module.read(path)
        of_each = found["case"]["config"]["data.per_device_batch"]
        chips = found["environment"]["device_count"]
        return of_each * chips, f"{found['steps'][-1]['loss']:.3f}"
    return _USUAL_BATCH, "-"


def _run(case: str, impl: str, batch: int, size: str, recipe: str) -> Record:
    """The record of a run, which tells no host."""
    settings = [f"data.global_batch={batch}", f"data.microbatches={max(1, batch // _AT_ONCE)}"]
    settings += ["run.steps=10", f"checkpoint.enabled={str(case == _SAVES).lower()}"]
    told = ["--case", case, "--impl", impl, "--size", size, "--recipe", recipe]
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        _, record = own_run(Path(folder), *told, *(w for key in settings for w in ("--set", key)))
    record["environment"]["hostname"] = None
    return record


def _figures(record: Record, matmul: float) -> list[str]:
    timing, saves = record["timing"], record["checkpoint"]["saves"]
    rate, mfu = timing["tflops_per_device"], timing["mfu_percent"]
    peak = record["memory"]["peak_in_use_bytes"]
    blocking = statistics.median(save["blocking_seconds"] for save in saves) if saves else None
    return [
        f"{timing['step_seconds']['median'] * 1e3:.1f} ({timing['step_seconds']['samples']})",
        f"{rate:.3g}",
        "-" if mfu is None else f"{mfu:.1f}",
        f"{100 * rate / matmul:.0f}",
        "-" if peak is None else gib(peak),
        "-" if blocking is None else f"{blocking:.2f} ({len(saves)})",
        f"{record['steps'][-1]['loss']:.3f}",
    ]


if __name__ == "__main__":
    cli.main(main)
