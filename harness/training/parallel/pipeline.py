"""A pipeline in one program: in each tick every stage runs what its schedule says, by hand.

The mesh axis "stage" divides the layers. After a tick what a stage has made passes to the next one
(an input) or to the one before (a gradient). A backward pass is the vjp of one layer, from the
input that was kept of its forward; nothing else is kept. Microbatches are embedded before the first
tick, and that is differentiated after the last. The loss of a microbatch is computed in the tick in
which it leaves the last layer, by all stages: each has its share of the table's rows.

Mesh axes other than "stage" and those of the batch are left to the compiler.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec

from harness.cases import families
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from harness.training.parallel.schedule import Passes, Schedule
from harness.training.parallel.spread_loss import Found
from harness.training.parallel.stage import AXIS, Given, Model, Stage
from models.cut import Cut, Params, at, placed, staged, without
from models.seam import Outcome
from models.shared import partitioning

Mesh = jax.sharding.Mesh | AbstractMesh


def has_stages(case: Case, mesh: Mesh) -> bool:
    """Whether a case is pipelined on a mesh; axes of a family's own mesh are its own matter."""
    return AXIS in mesh.shape and families.of(case).mesh is None


def stacked(case: Case, params: Params, mesh: Mesh) -> Params:
    """Parameters as a mesh with stages has them; as they are where it has none."""
    if not has_stages(case, mesh):
        return params
    schedule, cut = planned(case, params, mesh)
    return staged(params, cut, schedule.stages)


def planned(case: Case, params: Params, mesh: Mesh) -> tuple[Schedule, Cut]:
    """The schedule of a case on a mesh with stages, and where its family is cut.

    params: whatever has the parameters' shapes, their layers stacked in any way. UserError for what
    cannot be run so.
    """
    stages = mesh.shape[AXIS]
    family = families.of(case)
    if family.pipeline is None or family.loss is not None:
        why = "is not cut for a pipeline" if family.loss is None else "has a loss of its own"
        raise UserError(f"parallel.stage={stages}: the family {case.family} {why}")
    first = jax.tree.leaves(at(params, family.pipeline.layers))[0]
    layers = first.shape[0] * first.shape[1]
    repeats, left = divmod(layers, stages)
    if left:
        raise UserError(f"parallel.stage={stages}: must divide the {layers} layers")
    if case.pipeline.repeats not in (None, repeats):
        raise UserError(
            f"pipeline.repeats={case.pipeline.repeats}: must be {repeats}, for {layers} layers on"
            f" {stages} stages"
        )
    microbatches = case.data.microbatches
    schedule = Schedule(stages, repeats, microbatches, case.pipeline.group or microbatches)
    return schedule, family.pipeline


def differentiated(
    case: Case,
    implementation: Any,  # Pipelined
    config: Any,
    params: Params,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    scale: jax.Array | None,
) -> tuple[Outcome, Params]:
    """The outcome of a step's batch [M, B, T], and the gradients of its loss times `scale`.

    `params` are in the type to compute in. Meshes and rules are those in force.
    """
    schedule, cut = planned(case, params, jax.sharding.get_abstract_mesh())
    model = Model(implementation, config, cut)
    factor = jnp.float32(1) if scale is None else scale
    loss, gradients = value_and_gradients(schedule, model, params, batch, key, factor)
    total_weights = jnp.float32(batch["targets"].size)
    return Outcome(loss, {"total_weights": total_weights}), gradients


def value_and_gradients(
    schedule: Schedule,
    model: Model,
    params: Params,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    scale: jax.Array,
) -> tuple[jax.Array, Params]:
    """The mean loss of a batch, and the gradients of `scale` times it, in the type of `params`.

    `batch` holds arrays [M, B, T], `key` is the step's. The devices that divide the sequences of a
    microbatch are pipelines of their own, and each one's share is a microbatch of its own number.
    """
    cut, batch_axes = model.cut, partitioning.lies_on("batch")
    mesh = jax.sharding.get_abstract_mesh()
    shape = schedule.microbatches, math.prod(mesh.shape[axis] for axis in batch_axes)
    layers, rest = at(params, cut.layers), without(params, cut.layers)
    tokens, targets = (
        batch[name].reshape(*shape, -1, batch[name].shape[-1]) for name in ("inputs", "targets")
    )  # [M, parts, B, T]
    numbers = jnp.arange(math.prod(shape), dtype=jnp.uint32)
    keys = jax.vmap(partial(jax.random.fold_in, key))(numbers).reshape(shape)

    def embed(rest: Params) -> jax.Array:
        def one(tokens: jax.Array, key: jax.Array) -> jax.Array:
            key = jax.random.fold_in(key, jnp.uint32(schedule.stages * schedule.repeats))
            return model.implementation.embed(model.config, rest, tokens, key)

        return jax.vmap(jax.vmap(one))(tokens, keys)  # [M, parts, B, T, D]

    whole: Any = PartitionSpec()
    parts: Any = PartitionSpec(None, batch_axes)
    stacked: Any = PartitionSpec(None, AXIS)
    divided: Any = PartitionSpec(AXIS)
    manual = {AXIS, *batch_axes}
    with partitioning.by_hand(manual):
        embedded, pull = jax.vjp(embed, rest)
        given = Given(
            layers=layers,
            norm=at(rest, cut.norm),
            table=at(rest, cut.table),
            embedded=embedded,
            targets=targets,
            keys=keys,
            scale=scale,
            stage=jnp.arange(schedule.stages, dtype=jnp.uint32),
            forwards=schedule.passes("forward"),
            backwards=schedule.passes("backward"),
        )
        specs = Given(
            stacked, whole, divided, parts, parts, parts, whole, divided, stacked, stacked
        )
        d_layers, found, d_embedded = jax.shard_map(
            partial(_run, schedule, model, batch_axes),
            in_specs=(specs,),
            out_specs=(stacked, Found(whole, whole, divided), parts),
            axis_names=manual,
            check_vma=False,
        )(given)
        (d_rest,) = pull(d_embedded)
    for path, more in ((cut.norm, found.norm), (cut.table, found.table)):
        d_rest = placed(d_rest, path, jax.tree.map(jnp.add, at(d_rest, path), more))
    return found.loss, placed(d_rest, cut.layers, d_layers)


def _run(
    schedule: Schedule, model: Model, batch_axes: tuple[str, ...], given: Given
) -> tuple[Params, Found, jax.Array]:
    """All ticks of one device, and its sums with those of the other parts of the batch."""
    parts = jax.lax.axis_size(batch_axes)
    held = given._replace(
        layers=jax.tree.map(lambda leaf: leaf[:, 0], given.layers),
        embedded=given.embedded[:, 0],
        targets=given.targets[:, 0],
        keys=given.keys[:, 0],
        stage=given.stage[0],
        forwards=Passes(*(column[:, 0] for column in given.forwards)),
        backwards=Passes(*(column[:, 0] for column in given.backwards)),
    )
    stage = Stage(schedule, model, held, parts * schedule.microbatches)
    carry, begin = stage.empty(), 0
    for phase, ticks in schedule.ticks._asdict().items():
        with jax.named_scope(phase):
            carry = stage.run(phase, slice(begin, begin + ticks), carry)
        begin += ticks
    layers, found = jax.lax.psum((carry.layers, carry.found), batch_axes)
    d_embedded = jnp.where(held.stage == 0, carry.embedded[:-1], 0)
    return (
        jax.tree.map(lambda leaf: leaf[:, None], layers),
        found,
        jax.lax.psum(d_embedded, AXIS)[:, None],
    )
