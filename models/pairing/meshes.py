"""The mesh of its own that a pair lays its models over."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from models.pairing.sides import Arguments, PairFault, takes
from models.shared import partitioning

Make = Callable[..., Mesh]  # of devices and, by name, of arguments


def made(make: Make, arguments: Arguments, devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of all these devices; PairFault for anything else."""
    taken = {name: value for name, value in arguments.items() if takes(make, name)}
    try:
        mesh: Any = make(devices, **taken)
    except Exception as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise PairFault(f"mesh of {len(devices)} devices does not run: {told}") from None
    if not isinstance(mesh, Mesh):
        raise PairFault(f"mesh makes a {type(mesh).__name__}; must make a jax.sharding.Mesh")
    if {*mesh.devices.flat} != {*devices}:
        raise PairFault(f"mesh lays out {mesh.size} of {len(devices)} devices; must lay out all")
    return mesh


def current(make: Make, arguments: Arguments) -> Mesh:
    """The mesh in force; where none is, as while a pair is tried out, one of a single device."""
    there = partitioning.mesh_in_force()
    if there is not None:
        return there
    with jax.ensure_compile_time_eval():
        return made(make, arguments, [*jnp.zeros(()).devices()])
