"""What the benchmarks of compiled programs share: a step of both implementations, for a slice."""

import sys
from collections.abc import Sequence

from measuring import Table

from harness.cases import reading
from harness.slices import forecast, topology
from harness.slices.forecast import Forecast

_IMPLS = ("linen", "nnx")


def compiled(
    case: str, on: str, size: str, recipe: str, overrides: Sequence[str], table: Table
) -> Forecast:
    """NNX's forecast; the table warns where Linen's is another program, and where none fits."""
    twin: Forecast | None = None
    what = " ".join([f"{case} on {on}, {recipe}", *overrides])
    settings = reading.load(case, size, overrides, recipe)
    for impl in _IMPLS:
        question = forecast.Question(settings, size, recipe, impl, topology.find(on))

        def phase(name: str, impl: str = impl) -> None:
            print(f"{what}, {impl}: {name}", file=sys.stderr)

        found = forecast.make(question, phase, twin)
        key = "optimized_sha256"
        if twin and found.record["program"][key] != twin.record["program"][key]:
            table.warn(f"{what}: Linen and NNX are two programs")
        twin = found
    assert twin is not None
    if not twin.fits:
        table.warn(f"{what}: does not fit")
    return twin
