"""Compiles larger batches of the baseline for a slice, beside the peer's: --help shows how."""

import json
from pathlib import Path
from typing import Any

from compiling import compiled
from measuring import Table, parser

from harness import hardware
from harness.cases import families, reading
from harness.slices import prediction
from harness.slices.rows import Row, row
from harness.slices.space import Candidate
from harness.terminal import cli
from harness.terminal.text import gib

_CASE, _SLICE, _KIND = "01_baseline", "v6e-32", "TPU v6 lite"
_PEER = json.loads((Path(__file__).parent / "peer_slices.json").read_text())
_LARGER = _PEER["larger"]
_ABOUT = f"""{_CASE} for {_SLICE} with larger batches: predicted of steps compiled by libtpu. None
of them ran. MFU counts the products that the model asks for, of the bfloat16 peak, not what is
computed twice. Of the peer, compiled with its defaults, the sums of cycles and bytes are known:
its step lies between all and none of its permutes hidden by the computation.""".replace("\n", " ")
# What is held side by side: a recipe, and overrides.
_WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "reference": ("reference", ()),
    "reference, nothing computed twice": ("reference", ("model.remat=none",)),
    "fast": ("fast", ()),
    "experimental": ("experimental", ()),
}
_HEADER = ["sequences a chip: who", "step s", "MFU %", "tokens/s/chip", "GiB"]
_HEADER += ["compute s", "kernels s", "wire s", "of it hidden s"]


def main(argv: list[str]) -> int:
    """Compiles, or takes from the cache, and writes the table; returns the exit code."""
    arguments = parser("batches", "Compiles larger batches, beside the peer.", 1)
    arguments.add_argument("--size", default="full", choices=["tiny", "full"])
    arguments.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16], metavar="B")
    arguments.add_argument("--ways", nargs="+", default=[*_WAYS], choices=_WAYS)
    given = arguments.parse_args(argv)
    title = f"Larger batches on {_SLICE}" + ("" if given.size == "full" else ", tiny")
    more = f"with more sequences, {_LARGER[0]['source']}"
    table = Table(given, "batches", title, f"{_ABOUT} The peer: {_PEER['source']}; {more}.")
    rows = []
    for batch in given.batches:
        if given.size == "full":
            rows += [_peer(sums) for sums in _sums() if _sequences(sums) == batch]
        for way in given.ways:
            recipe, changes = _WAYS[way]
            overrides = [f"data.per_device_batch={batch}", *changes]
            found = compiled(_CASE, _SLICE, given.size, recipe, overrides, table)
            name = f"{batch}: {way}"
            rows.append([name, *_figures(row(Candidate(recipe), batch, found))])
            table.environment = found.record["environment"]
            parts = ("memory", "program", "prediction", "timing")
            table.samples[name] = {part: found.record[part] for part in parts}
    table.write(_HEADER, rows)
    return 0


def _figures(found: Row) -> list[str]:
    figures = found.figures
    if figures is None or not found.fits:
        return ["does not fit", *["-"] * (len(_HEADER) - 2)]
    times = (found.compute_seconds, found.kernel_seconds, found.wire_seconds)
    return [
        f"{figures.step_seconds:.4f}",
        f"{found.mfu_percent:.1f}",
        f"{figures.tokens_per_second:,.0f}",
        gib(figures.needed_bytes),
        *(f"{one:.4f}" for one in (*times, found.hidden_wire_seconds)),
    ]


def _sums() -> list[dict[str, Any]]:
    """What is known of the peer's programs of this case on this slice."""
    known = [*_PEER["cases"], *_LARGER]
    return [one for one in known if (one["case"], one["slice"]) == (_CASE, _SLICE)]


def _sequences(sums: dict[str, Any]) -> int:
    """Of a chip."""
    return int(sums.get("sequences", 1))


def _peer(sums: dict[str, Any]) -> list[str]:
    """A row of the peer's: the shortest and the longest step that the model allows."""
    case, sequences = reading.load(_CASE), _sequences(sums)
    count = families.of(case).tflop_per_step
    assert count is not None
    tflop, _ = count(case.model, case.data.sequence_length, sequences)
    longest, shortest = prediction.of_sums(sums)
    rates = [tflop / seconds for seconds in (longest, shortest)]
    mfu = [hardware.mfu_percent(rate, _KIND) for rate in rates]
    tokens = [sequences * case.data.sequence_length / seconds for seconds in (longest, shortest)]
    return [
        f"{sequences}: peer",
        f"{shortest:.4f} to {longest:.4f}",
        f"{mfu[0]:.1f} to {mfu[1]:.1f}",
        f"{tokens[0]:,.0f} to {tokens[1]:,.0f}",
        *["-"] * (len(_HEADER) - 4),
    ]


if __name__ == "__main__":
    cli.main(main)
