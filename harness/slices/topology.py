"""TPU slices by the names XPK gives them, and their devices where no TPU is."""

import dataclasses
import importlib.util
import math
import os
import re
import sys
from typing import TYPE_CHECKING

from harness import hardware
from harness.hardware import Family
from harness.terminal import installing
from harness.terminal.errors import UserError
from harness.terminal.text import nearest

if TYPE_CHECKING:  # slices are known by their names without JAX
    import jax

_SEVERAL = re.compile(r"([1-9]\d{0,2})x(\D.*)")  # slices of one kind


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice that can be asked for, and how its chips lie; or `count` slices of one kind."""

    family: Family
    shape: tuple[int, ...]
    count: int = 1

    @property
    def chips(self) -> int:
        """How many chips there are in all."""
        return math.prod(self.shape) * self.count

    @property
    def kind(self) -> str:
        """One slice's name, such as v6e-32."""
        return f"{self.family.name}-{math.prod(self.shape) * self.family.cores}"

    @property
    def name(self) -> str:
        """Such as v6e-32, or 2xv6e-32 of two slices."""
        return self.kind if self.count == 1 else f"{self.count}x{self.kind}"

    @property
    def shape_text(self) -> str:
        """Of one slice, such as 4x8."""
        return "x".join(map(str, self.shape))

    def devices(self) -> "list[jax.Device]":
        """Devices that programs can be compiled for but not run on.

        Starts JAX on the CPU when it has not been started. Raises UserError without libtpu.
        """
        prepare()
        from jax.experimental import topologies

        os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # nobody holds a chip: no need to lock
        os.environ["TPU_ACCELERATOR_TYPE"] = self.kind
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{self.family.libtpu}:{self.shape_text}",
            chip_config_name=self.family.chip_config,
            chips_per_host_bounds=(1, 1, 1) if math.prod(self.shape) == 1 else (2, 2, 1),
            num_slices=self.count,
        )
        return list(described.devices)


def prepare() -> None:
    """Readies JAX to compile for TPUs that are not here; UserError without libtpu.

    To be called before JAX starts, which would else look for TPUs and complain that there are none.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu, the TPU's own compiler, is not installed; it needs no TPU:"
            f" {installing.command('tpu')}"
        )
    os.environ["JAX_PLATFORMS"] = "cpu"  # which JAX reads when it is imported
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def find(name: str) -> Slice:
    """The slice called `name`, such as v6e-32 or, by its shape, v6e-4x8; or several, 2xv6e-32.

    Raises UserError naming the nearest slices for a name that no slice has.
    """
    several = _SEVERAL.fullmatch(name)
    count, one_name = (int(several[1]), several[2]) if several else (1, name)
    prefix, _, size = one_name.partition("-")
    family = hardware.family(prefix)
    if family is None:
        hint = _without_dash(one_name) or nearest(prefix, hardware.FAMILIES)
        raise UserError(
            f"--topology {name}: no such TPU slice{hint}; known are"
            f" {', '.join(hardware.FAMILIES)}, each with a size, such as v6e-32"
        )
    slices = _of_family(family)
    for one in slices:
        if f"{family.name}-{size}" in (one.kind, f"{family.name}-{one.shape_text}"):
            return dataclasses.replace(one, count=count)
    raise UserError(f"--topology {name}: no such TPU slice; {_nearest_sizes(slices, size)}")


def _of_family(family: Family) -> list[Slice]:
    return [Slice(family, tuple(map(int, shape.split("x")))) for shape in family.shapes]


def _without_dash(name: str) -> str:
    """The slice that is meant by a name such as v6e8 or V6E_8; empty where none is."""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    for family in hardware.FAMILIES.values():
        for one in _of_family(family):
            size = one.kind.partition("-")[2]
            if bare in (family.name + size, family.alias + size):
                return f" (nearest: {one.kind})"
    return ""


def _nearest_sizes(slices: list[Slice], size: str) -> str:
    """The slices of a family that are nearest in size."""
    names = {one.chips * one.family.cores: one.kind for one in slices}
    if not size.isdecimal():
        return f"known are {names[min(names)]} to {names[max(names)]}"
    nearest = sorted(sorted(names, key=lambda known: abs(known - int(size)))[:2])
    return "nearest: " + ", ".join(names[known] for known in nearest)
