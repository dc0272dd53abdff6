"""What is known of each kind of device: its names, peaks, memory, clock, links and slices."""

from collections.abc import Iterable
from dataclasses import dataclass

_GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """What a program's schedule is timed by.

    clock_hz: of the TensorCore. link_bytes_per_second: of one inter-chip link, one way.
    hop_seconds: until the next chip has the first byte. matrix_unit: its width; products with
    fewer rows or columns leave the rest of it idle. assumed: no run that is known checks them.
    """

    clock_hz: float
    link_bytes_per_second: float
    hop_seconds: float
    matrix_unit: int
    assumed: bool = False


@dataclass(frozen=True)
class Family:
    """The slices of one version of the TPU, as XPK 1.16 names them.

    alias: what Google's documents call it. cores: of a chip; a slice is numbered by them, v6e-32
    has 32 chips of one and v5p-8 has 4 chips of two. shapes: how the chips of each slice lie.
    libtpu, chip_config: what libtpu is asked for.
    """

    name: str
    alias: str
    libtpu: str
    cores: int
    shapes: tuple[str, ...]
    chip_config: str = "default"


@dataclass(frozen=True)
class Device:
    """Published facts of one JAX device; None is what its vendor does not publish.

    kinds: what JAX calls it, which is two names for some TPUs.
    """

    kinds: tuple[str, ...]
    bf16_tflop_per_second: float
    int8_top_per_second: float | None
    fp8_tflop_per_second: float | None
    hbm_bytes: int
    hbm_bytes_per_second: float
    family: Family | None = None
    chip: Chip | None = None


def _cubes(counts: Iterable[int]) -> tuple[str, ...]:
    """The shapes of slices made of whole cubes of 4 x 4 x 4 chips, each as compact as it can be."""
    shapes = []
    for count in counts:
        sides = [
            (a, b, count // (a * b))
            for a in _divisors(count)
            for b in _divisors(count // a)
            if a <= b <= count // (a * b) <= 64
        ]
        if sides:
            compact = min(sides, key=lambda s: s[0] * s[1] + s[1] * s[2] + s[0] * s[2])
            shapes.append("x".join(str(4 * side) for side in compact))
    return tuple(shapes)


def _divisors(count: int) -> list[int]:
    return [divisor for divisor in range(1, count + 1) if count % divisor == 0]


_PLANE = ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_BELOW_A_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
_V4_CUBES = ("4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16")

# Sources. TPU: the "System architecture" table of each version's page under
# docs.cloud.google.com/tpu/docs (v4, v5e, v5p, v6e, tpu7x); v5p's int8 rate from the hardware
# table of JAX's Pallas documentation. NVIDIA: the data sheets of A100, H100 and H200, dense: half
# of the rates printed "with sparsity"; GB are decimal.
# A v4 or a v5p chip is one JAX device (both cores joined), a TPU7x chip two of half its figures.
# Links and hops: "How to Scale Your Model" (jax-ml.github.io/scaling-book), chapters "How to Think
# About TPUs" (v5e 5e10, v6e 1e11 bytes/s one way; the same as a quarter of half the bidirectional
# figure in Google's "System architecture" tables) and "Sharded Matrices" (about 1 microsecond a
# hop). Widths: the same. Clocks: the published bfloat16 peak over the operations of a cycle (v5e 4
# units of 128 x 128, v6e 4 of 256 x 256, two each). Of v5p: a sixth of half the bidirectional
# figure, and 8 units of 128 x 128 of both cores, since a program's estimated cycles are of both
# together: a product of [8192, 4096] by [4096, 4096] in bfloat16, compiled for v5p-8, is estimated
# at 254,778 operations a cycle, 97 % of what 8 units do. No run of it checks that. Other chips of
# two cores have none.
DEVICES = (
    Device(
        kinds=("TPU v4",),
        bf16_tflop_per_second=275,
        int8_top_per_second=275,
        fp8_tflop_per_second=None,
        hbm_bytes=32 * _GIB,
        hbm_bytes_per_second=1.2e12,
        # megacore: both cores of a chip as one device, as they run
        family=Family("v4", "v4", "v4", 2, (*_BELOW_A_CUBE, *_V4_CUBES), chip_config="megacore"),
    ),
    Device(
        kinds=("TPU v5 lite", "TPU v5e"),
        bf16_tflop_per_second=197,
        int8_top_per_second=393,
        fp8_tflop_per_second=None,
        hbm_bytes=16 * _GIB,
        hbm_bytes_per_second=0.819e12,
        family=Family("v5litepod", "v5e", "v5e", 1, _PLANE),
        chip=Chip(clock_hz=1.5e9, link_bytes_per_second=5e10, hop_seconds=1e-6, matrix_unit=128),
    ),
    Device(
        kinds=("TPU v5", "TPU v5p"),
        bf16_tflop_per_second=459,
        int8_top_per_second=918,
        fp8_tflop_per_second=459,
        hbm_bytes=95 * _GIB,
        hbm_bytes_per_second=2.765e12,
        family=Family("v5p", "v5p", "v5p", 2, (*_BELOW_A_CUBE, *_cubes([*range(1, 97), 108, 140]))),
        chip=Chip(
            1.75e9, link_bytes_per_second=1e11, hop_seconds=1e-6, matrix_unit=128, assumed=True
        ),
    ),
    Device(
        kinds=("TPU v6 lite", "TPU v6e"),
        bf16_tflop_per_second=918,
        int8_top_per_second=1836,
        fp8_tflop_per_second=918,
        hbm_bytes=32 * _GIB,
        hbm_bytes_per_second=1.638e12,
        family=Family("v6e", "v6e", "v6e", 1, ("1x1", "2x2", *_PLANE)),
        chip=Chip(clock_hz=1.75e9, link_bytes_per_second=1e11, hop_seconds=1e-6, matrix_unit=256),
    ),
    Device(
        kinds=("TPU7x",),
        bf16_tflop_per_second=2307 / 2,
        int8_top_per_second=None,
        fp8_tflop_per_second=4614 / 2,
        hbm_bytes=192 * _GIB // 2,
        hbm_bytes_per_second=7.38e12 / 2,
        family=Family(
            *("tpu7x", "tpu7x", "tpu7x", 2),
            ("1x1x1", *_BELOW_A_CUBE, *_cubes([*range(1, 97), 108, 128, 140, 144])),
        ),
    ),
    Device(("NVIDIA A100-SXM4-40GB",), 312, 624, None, 40 * 10**9, 1.555e12),
    Device(("NVIDIA A100-SXM4-80GB",), 312, 624, None, 80 * 10**9, 2.039e12),
    Device(("NVIDIA H100 80GB HBM3",), 1979 / 2, 3958 / 2, 3958 / 2, 80 * 10**9, 3.35e12),
    Device(("NVIDIA H200",), 1979 / 2, 3958 / 2, 3958 / 2, 141 * 10**9, 4.8e12),
)
FAMILIES = {device.family.name: device.family for device in DEVICES if device.family is not None}

_BY_KIND = {kind: device for device in DEVICES for kind in device.kinds}
_BY_ALIAS = {family.alias: family for family in FAMILIES.values()}


def find(kind: str | None) -> Device | None:
    """The device that JAX calls `kind`, None where nothing is known of it."""
    return _BY_KIND.get(kind or "")


def family(name: str) -> Family | None:
    """The family that XPK or Google calls `name`, None where neither does."""
    return FAMILIES.get(name) or _BY_ALIAS.get(name)


def mfu_percent(tflops_per_device: float, kind: str | None) -> float | None:
    """The share of the dense bf16 peak; also for int8 and fp8, so that cases compare."""
    device = find(kind)
    return None if device is None else 100 * tflops_per_device / device.bf16_tflop_per_second


def peak_tflops(kind: str, quantization: str = "none") -> float | None:
    """The most that a device can do at that precision, in 10^12 operations a second."""
    device = find(kind)
    if device is None:
        return None
    quantized = {"int8": device.int8_top_per_second, "fp8": device.fp8_tflop_per_second}
    # Only some matmuls are quantised, the others run at the bf16 rate: the faster one bounds both.
    return max(device.bf16_tflop_per_second, quantized.get(quantization) or 0)
