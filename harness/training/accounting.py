"""Parameters, FLOPs and memory of a step."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax


class MemoryInUse(NamedTuple):
    """What a device's allocator reports."""

    bytes_in_use: int
    peak_bytes_in_use: int


def parameter_count(shapes: Any) -> int:
    """Returns how many numbers a tree of arrays or of their shapes and dtypes holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def parameters_per_device(shapes: Any, shardings: Any) -> int:
    """Returns how many numbers of the tree one device holds, given a tree of its shardings."""
    held = jax.tree.map(lambda leaf, s: math.prod(s.shard_shape(leaf.shape)), shapes, shardings)
    return sum(jax.tree.leaves(held))


def compiled_memory(compiled: Any) -> dict[str, int | None]:
    """Returns what the compiler says one device needs, as keys of the record's `memory`.

    `compiled` is the result of `jit(...).lower(...).compile()`; None where its backend tells
    nothing.
    """
    names = ("argument", "output", "temp", "alias", "generated_code")
    analysis = compiled.memory_analysis()
    if analysis is None:
        return {f"{name}_bytes": None for name in (*names, "total")}
    sizes = {name: int(getattr(analysis, f"{name}_size_in_bytes")) for name in names}
    sizes["total"] = sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
    return {f"{name}_bytes": size for name, size in sizes.items()}


def both_bytes(a: Mapping[str, int | None], b: Mapping[str, int | None]) -> int | None:
    """What one device holds with two runs' states on it, while the larger of their steps runs.

    a, b: the `memory` of their records; None where one does not tell.
    """
    kept = beside = 0
    for memory in (a, b):
        argument, total = memory["argument_bytes"], memory["total_bytes"]
        code = memory["generated_code_bytes"]
        if argument is None or total is None or code is None:
            return None
        kept, beside = kept + argument + code, max(beside, total - argument)
    return kept + beside


def memory_in_use(device: jax.Device) -> MemoryInUse | None:
    """Returns the bytes in use on a device, None where the backend does not count them (CPU)."""
    statistics = device.memory_stats()
    if not statistics or "peak_bytes_in_use" not in statistics:
        return None
    return MemoryInUse(statistics["bytes_in_use"], statistics["peak_bytes_in_use"])
