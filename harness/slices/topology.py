"""TPU slices by the names XPK gives them, and their devices where no TPU is."""

import difflib
import importlib.util
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import jax

from harness.errors import UserError


@dataclass(frozen=True)
class _Family:
    """One version of the TPU; `cores` of a chip count in a slice's name, v5p-8 has four chips."""

    libtpu: str
    cores: int
    shapes: tuple[str, ...]
    chip_config: str = "default"


def _cubes(counts: Iterable[int]) -> tuple[str, ...]:
    """The shapes of slices made of whole cubes of 4 x 4 x 4 chips, each as compact as it can be."""
    shapes = []
    for count in counts:
        sides = [
            (a, b, count // (a * b))
            for a in range(1, count + 1)
            for b in range(a, count + 1)
            if count % (a * b) == 0 and b <= count // (a * b) <= 64
        ]
        if sides:
            compact = min(sides, key=lambda s: s[0] * s[1] + s[1] * s[2] + s[0] * s[2])
            shapes.append("x".join(str(4 * side) for side in compact))
    return tuple(shapes)


_PLANE = ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_BELOW_A_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")

# The slices that XPK 1.16 knows. XPK says v5litepod where Google's documents say v5e.
FAMILIES = {
    "v4": _Family(
        "v4",
        2,
        (*_BELOW_A_CUBE, "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16"),
        chip_config="megacore",  # both cores of a chip as one device, as they run
    ),
    "v5litepod": _Family("v5e", 1, _PLANE),
    "v5p": _Family("v5p", 2, (*_BELOW_A_CUBE, *_cubes([*range(1, 97), 108, 140]))),
    "v6e": _Family("v6e", 1, ("1x1", "2x2", *_PLANE)),
    "tpu7x": _Family(
        "tpu7x", 2, ("1x1x1", *_BELOW_A_CUBE, *_cubes([*range(1, 97), 108, 128, 140, 144]))
    ),
}
_ALIASES = {"v5e": "v5litepod"}


@dataclass(frozen=True)
class Slice:
    """A TPU slice that can be asked for: `family` and number as in its name, chips as they lie."""

    family: str
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many chips it has."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """Such as v6e-32."""
        return f"{self.family}-{self.chips * FAMILIES[self.family].cores}"

    @property
    def shape_text(self) -> str:
        """Such as 4x8."""
        return "x".join(map(str, self.shape))

    def devices(self) -> list[jax.Device]:
        """Devices that programs can be compiled for but not run on.

        Starts JAX on the CPU when it has not been started. Raises UserError without libtpu.
        """
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                "a TPU program is compiled by libtpu, which is not installed: pip install '.[tpu]'"
            )
        from jax.experimental import topologies

        jax.config.update("jax_platforms", "cpu")
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # nobody holds a chip: no need to lock
        os.environ["TPU_ACCELERATOR_TYPE"] = self.name
        family = FAMILIES[self.family]
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{family.libtpu}:{self.shape_text}",
            chip_config_name=family.chip_config,
            chips_per_host_bounds=(1, 1, 1) if self.chips == 1 else (2, 2, 1),
            num_slices=1,
        )
        return list(described.devices)


def find(name: str) -> Slice:
    """The slice called `name`, such as v6e-32 or, by its shape, v6e-4x8.

    Raises UserError naming the nearest slices for a name that is none's.
    """
    family, _, size = name.partition("-")
    family = _ALIASES.get(family, family)
    for one in _slices(family):
        if f"{family}-{size}" in (one.name, f"{family}-{one.shape_text}"):
            return one
    raise UserError(f"--topology {name}: no such TPU slice; {_nearest(family, size)}")


def _slices(family: str) -> list[Slice]:
    shapes = FAMILIES[family].shapes if family in FAMILIES else ()
    return [Slice(family, tuple(map(int, shape.split("x")))) for shape in shapes]


def _nearest(family: str, size: str) -> str:
    """The slices of the family that are nearest in size, or the families."""
    if family not in FAMILIES:
        close = difflib.get_close_matches(family, FAMILIES, n=1, cutoff=0.5)
        hint = f"nearest: {close[0]}; " if close else ""
        return f"{hint}known are {', '.join(FAMILIES)}, each with a size, such as v6e-32"
    names = {one.chips * FAMILIES[family].cores: one.name for one in _slices(family)}
    if not size.isdecimal():
        return f"known are {names[min(names)]} to {names[max(names)]}"
    nearest = sorted(sorted(names, key=lambda known: abs(known - int(size)))[:2])
    return "nearest: " + ", ".join(names[known] for known in nearest)
