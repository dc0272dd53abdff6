"""TPU slices by the names XPK gives them, and their devices where no TPU is."""

import importlib.util
import math
import os
from dataclasses import dataclass

import jax

from harness import hardware
from harness.errors import UserError
from harness.hardware import Family
from harness.text import nearest


@dataclass(frozen=True)
class Slice:
    """A TPU slice that can be asked for, and how its chips lie."""

    family: Family
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many chips it has."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """Such as v6e-32."""
        return f"{self.family.name}-{self.chips * self.family.cores}"

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
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{self.family.libtpu}:{self.shape_text}",
            chip_config_name=self.family.chip_config,
            chips_per_host_bounds=(1, 1, 1) if self.chips == 1 else (2, 2, 1),
            num_slices=1,
        )
        return list(described.devices)


def find(name: str) -> Slice:
    """The slice called `name`, such as v6e-32 or, by its shape, v6e-4x8.

    Raises UserError naming the nearest slices for a name that is none's.
    """
    prefix, _, size = name.partition("-")
    family = hardware.family(prefix)
    if family is None:
        raise UserError(
            f"--topology {name}: no such TPU slice{nearest(prefix, hardware.FAMILIES)}; known are"
            f" {', '.join(hardware.FAMILIES)}, each with a size, such as v6e-32"
        )
    slices = [Slice(family, tuple(map(int, shape.split("x")))) for shape in family.shapes]
    for one in slices:
        if f"{family.name}-{size}" in (one.name, f"{family.name}-{one.shape_text}"):
            return one
    raise UserError(f"--topology {name}: no such TPU slice; {_nearest_sizes(slices, size)}")


def _nearest_sizes(slices: list[Slice], size: str) -> str:
    """The slices of a family that are nearest in size."""
    names = {one.chips * one.family.cores: one.name for one in slices}
    if not size.isdecimal():
        return f"known are {names[min(names)]} to {names[max(names)]}"
    nearest = sorted(sorted(names, key=lambda known: abs(known - int(size)))[:2])
    return "nearest: " + ", ".join(names[known] for known in nearest)
