"""From a case's `parallel` to the mesh, and the one table that says which axis lies on it."""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from harness import hardware
from harness.cases import families
from harness.cases.settings import Case, Parallel
from harness.terminal.errors import UserError
from models.shared.partitioning import Rules, among, in_force, mesh_axes, partition_spec

_BATCH = ("data", "fsdp")  # the mesh axes that divide the batch

# logical axis -> mesh axes; None is replicated
RULES: Rules = {
    "batch": _BATCH,
    "position": None,
    "activation_embed": None,
    "vocab": "tensor",
    "embed_vocab": "fsdp",
    "embed": "fsdp",
    "mlp": "tensor",
    "heads": "tensor",
    "q_heads": "tensor",
    "kv_heads": "tensor",
    "kv": None,
    "kv_head_dim": None,
    "norm": None,
    "layers": None,
}


@dataclasses.dataclass(frozen=True)
class Grid:
    """A mesh and the rules in force on it, which name no axis that it lacks.

    own: whether it is the family's; what its rules say nothing of then lies whole on every device.
    """

    mesh: Mesh
    rules: Rules
    own: bool = False

    @property
    def devices(self) -> int:
        """All devices."""
        return self.mesh.size

    @property
    def batch_parts(self) -> int:
        """Into how many parts the batch is divided."""
        return _parts(self.mesh, self.rules["batch"])

    @property
    def slices(self) -> int:
        """How many TPU slices the devices lie on."""
        return _slices(self.mesh.devices.flat)

    @property
    def kind(self) -> str:
        """The devices' kind, as JAX names it."""
        return str(self.mesh.devices.flat[0].device_kind)

    @property
    def platform(self) -> str:
        """Such as tpu."""
        return str(self.mesh.devices.flat[0].platform)

    @property
    def batch(self) -> NamedSharding:
        """The sharding of tensors whose first axis is the batch."""
        return NamedSharding(self.mesh, partition_spec(("batch",), self.rules))

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of scalars and whatever else every device holds."""
        return NamedSharding(self.mesh, PartitionSpec())

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Puts mesh and rules in force for a trace."""
        with in_force(self.mesh, self.rules):
            yield

    def shardings(self, shapes: Any, axes: Any, lenient: bool = False) -> Any:
        """A sharding for every array of a tree, from the logical axes at the same places.

        lenient: one whose axes no rule knows, or the devices cannot divide, is divided along its
        longest axis that they can; on a mesh of the family's own along none.

        Raises UserError for an array that the devices cannot divide evenly, or one of whose axes is
        divided over the same devices as another.
        """

        def sharding(
            path: Any, shape: jax.ShapeDtypeStruct, names: tuple[str, ...]
        ) -> NamedSharding:
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            if lenient and not self._divides(shape.shape, names):
                spec = PartitionSpec() if self.own else self._longest(shape.shape)
                return NamedSharding(self.mesh, spec)
            try:
                spec = partition_spec(names, self.rules)
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
            for size, name, over in zip(shape.shape, names, spec, strict=True):
                parts = _parts(self.mesh, over)
                if size % parts:
                    raise UserError(
                        f"{where}: its axis {name} of {size} cannot be divided by the"
                        f" {parts} devices"
                    )
            return NamedSharding(self.mesh, spec)

        return jax.tree_util.tree_map_with_path(sharding, shapes, axes)

    def _divides(self, shape: Sequence[int], names: tuple[str | None, ...]) -> bool:
        """Whether there is a rule for each axis, and an array can be divided by them all."""
        if len(names) != len(shape) or not {name for name in names if name} <= self.rules.keys():
            return False
        over = [None if name is None else self.rules[name] for name in names]
        taken = [one for rule in over for one in mesh_axes(rule)]
        return (
            (self.own or bool(taken))
            and len({*taken}) == len(taken)
            and all(
                size % _parts(self.mesh, rule) == 0 for size, rule in zip(shape, over, strict=True)
            )
        )

    def _longest(self, shape: Sequence[int]) -> PartitionSpec:
        """The longest axis that fsdp divides lies on it; without one, every device holds all."""
        parts = self.mesh.shape["fsdp"]
        fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
        if not fitting:
            return PartitionSpec()
        longest = max(fitting, key=lambda axis: shape[axis])
        return PartitionSpec(*(None,) * longest, "fsdp")


def rules_of(case: Case) -> Rules:
    """The rules of a case, among them its family's own."""
    return {**RULES, **families.of(case).rules}


def make(case: Case, devices: Sequence[jax.Device]) -> Grid:
    """The mesh of a case over these devices; UserError when its sizes do not fit them.

    The sizes are those of `parallel` and, where it gives neither data nor fsdp, of the case's rule
    for what the devices are. An axis of one device is left out, but for fsdp. On several slices the
    slices divide `data`: nothing but gradients passes between them. A family may have its own mesh.
    """
    if families.of(case).mesh is not None:
        return _own(case, devices)
    sizes = _sizes(sizes_on(case, instance_type(devices)), len(devices))
    kept = {axis: size for axis, size in sizes.items() if size > 1 or axis == "fsdp"}
    used = {axis for over in rules_of(case).values() for axis in mesh_axes(over)}
    for axis in kept.keys() - used:
        raise UserError(f"parallel.{axis}={sizes[axis]}: the family divides nothing over it")
    slices = _slices(devices)
    if sizes["data"] % slices:
        raise UserError(f"parallel.data={sizes['data']}: must be a multiple of the {slices} slices")
    made = _mesh(kept, devices, slices)
    rules = {name: among(over, kept) for name, over in rules_of(case).items()}
    return Grid(made, rules)


def _own(case: Case, devices: Sequence[jax.Device]) -> Grid:
    """The mesh that the family itself makes of the devices, whose axes can be named as they are."""
    family, usual = families.of(case), type(case.parallel)()
    for field in dataclasses.fields(usual):
        size = getattr(case.parallel, field.name)
        if size != getattr(usual, field.name):
            raise UserError(f"parallel.{field.name}={size}: {case.twins} has a mesh of its own")
    assert family.mesh is not None
    made = family.mesh(case.model, devices)
    rules: Rules = {**RULES, **{axis: axis for axis in made.axis_names}, **family.rules}
    # An axis of one device divides nothing, so that several of an array's may lie on it.
    divided = [axis for axis, size in made.shape.items() if size > 1]
    return Grid(made, {name: among(over, divided) for name, over in rules.items()}, own=True)


def alone(case: Case) -> Case:
    """The case on one device, whatever sizes it says."""
    run = dataclasses.replace(case.run, mesh_rules=())
    return dataclasses.replace(case, parallel=type(case.parallel)(), run=run)


def batch_parts(case: Case, devices: int) -> int:
    """Into how many parts a mesh of so many devices divides the batch, by `parallel` alone."""
    sizes = _sizes(case.parallel, devices)
    return math.prod(sizes[axis] for axis in _BATCH)


def _slices(devices: Iterable[Any]) -> int:
    return len({getattr(device, "slice_index", 0) for device in devices})


def _mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device], slices: int) -> Mesh:
    """As JAX lays it over the chips' links; one row of them may be cut for two axes."""
    from jax.experimental import mesh_utils

    within = [size // slices if axis == "data" else size for axis, size in sizes.items()]
    between = [slices if axis == "data" else 1 for axis in sizes]
    placed: np.ndarray
    if slices == 1:
        placed = mesh_utils.create_device_mesh(within, devices, allow_split_physical_axes=True)
    else:
        placed = mesh_utils.create_hybrid_device_mesh(
            within, between, devices, allow_split_physical_axes=True
        )
    return Mesh(placed, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))


def instance_type(devices: Sequence[Any]) -> str:
    """What a case's rules know devices by: tpu-v6e-256, tpu-v6e-256-4 of four slices, cpu-8."""
    known = hardware.find(devices[0].device_kind)
    if known is None or known.family is None:
        return f"{devices[0].platform}-{len(devices)}"
    slices = _slices(devices)
    cores = sum(device.num_cores for device in devices) // slices
    return f"tpu-{known.family.name}-{cores}" + (f"-{slices}" if slices > 1 else "")


def sizes_on(case: Case, instance: str) -> Parallel:
    """The case's sizes, of data and fsdp those of its first rule that matches the instance's type.

    Where `parallel` gives one of the two, the other takes the devices that are left.
    """
    given, usual = case.parallel, type(case.parallel)()
    data_given, fsdp_given = given.data != usual.data, given.fsdp != usual.fsdp
    for pattern, data, fsdp in case.run.mesh_rules:
        if re.fullmatch(pattern, instance):
            if fsdp_given and not data_given:
                return dataclasses.replace(given, data=-1)
            return given if data_given else dataclasses.replace(given, data=data, fsdp=fsdp)
    return given


def _sizes(parallel: Parallel, devices: int) -> dict[str, int]:
    """The size of each mesh axis, in the order in which they lie: what talks least is outermost."""
    sizes = {field.name: getattr(parallel, field.name) for field in dataclasses.fields(parallel)}
    given = math.prod(size for size in sizes.values() if size != -1)
    told = ", ".join(f"{axis} {size}" for axis, size in sizes.items() if size != 1)
    if devices % given or (given != devices and -1 not in sizes.values()):
        raise UserError(f"parallel: {told}: must multiply to {devices}, the number of devices")
    sizes = {axis: devices // given if size == -1 else size for axis, size in sizes.items()}
    order = ["data", "fsdp", *(axis for axis in sizes if axis not in _OWN_ORDER), "stage", "tensor"]
    return {axis: sizes[axis] for axis in order}


_OWN_ORDER = ("data", "fsdp", "stage", "tensor")


def _parts(mesh: Mesh, over: str | tuple[str, ...] | None) -> int:
    return math.prod(mesh.shape[axis] for axis in mesh_axes(over))
