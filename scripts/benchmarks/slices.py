"""Holds what is compiled for TPU slices against the peer's figures: --help shows how."""

import json
from pathlib import Path
from typing import Any

from compiling import compiled
from measuring import Table, parser

from harness.cases import reading
from harness.terminal import cli

_PEER = json.loads((Path(__file__).parent / "peer_slices.json").read_text())
_ABOUT = """Per device and step, compiled by libtpu; nothing ran. Mcycles leave out Pallas kernels,
collectives and asynchronous copies, so that the predicted step time decides, not a column. Wire:
all collectives of a step, and what of them the computation hides. Both implementations are one
program unless a warning says otherwise.""".replace("\n", " ")


def main(argv: list[str]) -> int:
    """Compiles, or takes from the cache, and writes the table; returns the exit code."""
    arguments = parser("slices", "Compares compiled programs with the peer's.", 1)
    cases = [row["case"] for row in _PEER["cases"]]
    arguments.add_argument("--size", default="full", choices=["tiny", "full"])
    arguments.add_argument("--cases", nargs="+", default=cases, choices=cases)
    given = arguments.parse_args(argv)
    title = "Compiled for v6e" + ("" if given.size == "full" else ", tiny: not the peer's size")
    about = f"{_ABOUT} The peer: {_PEER['source']}."
    table = Table(given, "slices", title, about)
    rows = []
    for peer in _PEER["cases"]:
        if peer["case"] not in given.cases:
            continue
        name = f"{peer['case']}, {peer['slice']}"
        seconds = {"step_seconds": peer["published_step_seconds"]}
        rows.append([f"{name}: peer", *_figures(peer, seconds)])
        for recipe in reading.RECIPES:
            record = compiled(peer["case"], peer["slice"], given.size, recipe, (), table).record
            figures = record["memory"] | record["program"]
            rows.append([f"{name}: {recipe}", *_figures(figures, record["prediction"])])
            table.environment = record["environment"]
            parts = ("memory", "program", "prediction", "timing")
            table.samples[f"{name}: {recipe}"] = {part: record[part] for part in parts}
    header = ["case, slice: who", "Mcycles", "wire GB", "temp GiB"]
    header += ["step s", "wire s", "of it hidden s"]
    table.write(header, rows)
    print("step s: published for the peer, predicted for ours")
    return 0


def _figures(figures: dict[str, Any], prediction: dict[str, Any]) -> list[str]:
    scales = (("fusion_cycles", 1e6, 1), ("wire_bytes", 1e9, 2), ("temp_bytes", 2**30, 2))
    cells = [
        "-" if figures[key] is None else f"{figures[key] / unit:.{digits}f}"
        for key, unit, digits in scales
    ]
    wire = prediction.get("wire_seconds")
    hidden = None if wire is None else wire - prediction["exposed_wire_seconds"]
    seconds = (prediction["step_seconds"], wire, hidden)
    return [*cells, *("-" if value is None else f"{value:.3f}" for value in seconds)]


if __name__ == "__main__":
    cli.main(main)
