"""Parameters, FLOPs and memory of a step, and what each kind of device can do at most."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from models.decoder.config import ModelConfig

_GIB = 2**30


@dataclass(frozen=True)
class DeviceLimits:
    """Published limits of one JAX device; a rate the vendor does not publish is None."""

    bf16_tflop_per_second: float
    int8_top_per_second: float | None
    fp8_tflop_per_second: float | None
    hbm_bytes: int
    hbm_bytes_per_second: float


# Sources. TPU: the "System architecture" table of each version's page under
# docs.cloud.google.com/tpu/docs (v4, v5e, v5p, v6e, tpu7x); v5p's int8 rate from the hardware
# table of JAX's Pallas documentation. NVIDIA: the data sheets of A100, H100 and H200, dense: half
# of the rates printed "with sparsity"; GB are decimal. JAX may name one TPU in two ways.
# A v4 or a v5p chip is one JAX device (both cores joined), a TPU7x chip two of half its figures.
# Columns: bf16, int8 and fp8 rate, bytes of memory, bytes per second from it.
_LIMITS = {
    "TPU v4": DeviceLimits(275, 275, None, 32 * _GIB, 1.2e12),
    **dict.fromkeys(
        ("TPU v5 lite", "TPU v5e"),
        DeviceLimits(197, 393, None, 16 * _GIB, 0.819e12),
    ),
    **dict.fromkeys(
        ("TPU v5", "TPU v5p"),
        DeviceLimits(459, 918, 459, 95 * _GIB, 2.765e12),
    ),
    **dict.fromkeys(
        ("TPU v6 lite", "TPU v6e"),
        DeviceLimits(918, 1836, 918, 32 * _GIB, 1.638e12),
    ),
    "TPU7x": DeviceLimits(2307 / 2, None, 4614 / 2, 192 * _GIB // 2, 7.38e12 / 2),
    "NVIDIA A100-SXM4-40GB": DeviceLimits(312, 624, None, 40 * 10**9, 1.555e12),
    "NVIDIA A100-SXM4-80GB": DeviceLimits(312, 624, None, 80 * 10**9, 2.039e12),
    "NVIDIA H100 80GB HBM3": DeviceLimits(1979 / 2, 3958 / 2, 3958 / 2, 80 * 10**9, 3.35e12),
    "NVIDIA H200": DeviceLimits(1979 / 2, 3958 / 2, 3958 / 2, 141 * 10**9, 4.8e12),
}


class StepFlops(NamedTuple):
    """Work of one device in one step, forward and backward, recomputation not counted."""

    tflop: float
    attention_percent: float


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


def tflop_per_step(model: ModelConfig, sequence_length: int, per_device_batch: int) -> StepFlops:
    """Counts the matrix products of one training step with causal attention on one device.

    Each product is done once forward and twice backward. Norms, rotations, softmax and the
    optimizer are left out, as in every published MFU; of attention, the half below the diagonal.
    """
    tokens = per_device_batch * sequence_length
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    # Multiplications per token and layer: wi_0, wi_1, wo; query, key, value, out.
    layer = 3 * model.embed * model.mlp + model.embed * (2 * queries + 2 * keys)
    products = model.layers * layer + model.embed * model.vocab
    # Every position meets half of all positions on average, in scores and in values.
    attended = model.layers * 2 * queries * sequence_length / 2
    weights, attention = (3 * 2 * tokens * count for count in (products, attended))
    total = weights + attention
    return StepFlops(total / 1e12, 100 * attention / total)


def device_limits(device_kind: str) -> DeviceLimits | None:
    """Returns the limits of a device kind as JAX names it, None where none are known."""
    return _LIMITS.get(device_kind)


def unknown_device_warning(device_kind: str) -> str | None:
    """Returns what to tell about a kind without limits; a CPU has none that would mean anything."""
    if device_kind in _LIMITS or device_kind == "cpu":
        return None
    return f"device kind {device_kind!r} is not in the table of peaks: MFU and capacity are unknown"


def mfu_percent(tflops_per_device: float, device_kind: str) -> float | None:
    """Returns the share of the dense bf16 peak; also for int8 and fp8, so that cases compare."""
    limits = device_limits(device_kind)
    return None if limits is None else 100 * tflops_per_device / limits.bf16_tflop_per_second


def above_peak_warning(
    tflops_per_device: float, device_kind: str, quantization: str = "none"
) -> str | None:
    """Returns a warning when a measured rate exceeds what the device can do at that precision."""
    limits = device_limits(device_kind)
    if limits is None:
        return None
    quantized = {"int8": limits.int8_top_per_second, "fp8": limits.fp8_tflop_per_second}
    # Only some matmuls are quantised, the others run at the bf16 rate: the faster one bounds both.
    peak = max(limits.bf16_tflop_per_second, quantized.get(quantization) or 0)
    if tflops_per_device <= peak:
        return None
    return (
        f"{tflops_per_device:.1f} TFLOP/s per device is above the peak of {device_kind} "
        f"({peak:.1f}): the measurement is wrong"
    )


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


def memory_in_use(device: jax.Device) -> MemoryInUse | None:
    """Returns the bytes in use on a device, None where the backend does not count them (CPU)."""
    statistics = device.memory_stats()
    if not statistics or "peak_bytes_in_use" not in statistics:
        return None
    return MemoryInUse(statistics["bytes_in_use"], statistics["peak_bytes_in_use"])
