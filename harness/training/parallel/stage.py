"""What a device of a pipeline does in a tick, inside a shard_map over the mesh axis "stage"."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from harness.training.parallel import spread_loss
from harness.training.parallel.schedule import Passes, Schedule
from harness.training.parallel.spread_loss import Found
from models.cut import Cut, Params, Pipelined

AXIS = "stage"


class Model(NamedTuple):
    """What is trained: an implementation's pieces, and the config and the cut of its family."""

    implementation: Pipelined
    config: Any
    cut: Cut


class Given(NamedTuple):
    """What a device is given: its share of the model and the batch, and its own part of the plan.

    Inside the ticks the axes of `parts` and `stage`, of which a device has one, are gone.
    """

    layers: Params  # [repeats, stage, ...]
    norm: Params
    table: jax.Array  # [V/stages, D]
    embedded: jax.Array  # [M, parts, B, T, D]
    targets: jax.Array  # [M, parts, B, T]
    keys: jax.Array  # [M, parts], of each microbatch
    scale: jax.Array
    stage: jax.Array  # [stage], its number
    forwards: Passes  # [ticks, stage]
    backwards: Passes


class Carry(NamedTuple):
    """What goes on from tick to tick: what came from other stages, and sums of gradients."""

    inputs: jax.Array  # [places, B, T, D]
    gradients: jax.Array  # [places, B, T, D]
    embedded: jax.Array  # [M + 1, B, T, D], gradients; one of no microbatch goes to the last
    layers: Params
    found: Found


class _Row(NamedTuple):
    """The plan of a tick; `due` says whether a microbatch leaves the last layer in it."""

    forward: Passes
    backward: Passes
    due: np.ndarray
    microbatch: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stage:
    """One device and what it does in a tick."""

    schedule: Schedule
    model: Model
    given: Given  # without the axes of which a device has one
    microbatches: int  # of all parts

    def empty(self) -> Carry:
        """Before the first tick."""
        given, shape = self.given, self.given.embedded.shape[1:]
        inputs, gradients, embedded = (
            jnp.zeros((places, *shape), given.embedded.dtype)
            for places in (
                self.schedule.places("forward"),
                self.schedule.places("backward"),
                self.schedule.microbatches + 1,
            )
        )
        found = Found(jnp.float32(0), *jax.tree.map(jnp.zeros_like, (given.norm, given.table)))
        layers = jax.tree.map(jnp.zeros_like, given.layers)
        return Carry(inputs, gradients, embedded, layers, found)

    def run(self, phase: str, ticks: slice, carry: Carry) -> Carry:
        """Some ticks: in the warm phase forwards alone, in the cool one backwards alone."""
        losses = self.schedule.losses()[ticks]
        rows = _Row(
            Passes(*(column[ticks] for column in self.given.forwards)),
            Passes(*(column[ticks] for column in self.given.backwards)),
            np.array([microbatch is not None for microbatch in losses]),
            np.array([microbatch or 0 for microbatch in losses]),
        )

        def tick(carry: Carry, row: _Row) -> tuple[Carry, None]:
            inputs, gradients, embedded, layers, found = carry
            d_made = None
            if phase != "cool":
                made = self.forward(carry, row.forward)
                inputs = self.passed_on(made, 1, inputs, row.forward)
            if phase == "steady":
                loss = partial(self.loss, found, made, row.microbatch)
                idle = partial(lambda *same: same, found, made)
                found, d_made = loss() if all(rows.due) else jax.lax.cond(row.due, loss, idle)
            if phase != "warm":
                d_weights, d_x = self.backward(carry, row.backward, d_made)
                layers = _add(layers, d_weights, row.backward.chunk)
                gradients = self.passed_on(d_x, -1, gradients, row.backward)
                first = row.backward.runs & self.is_first(row.backward)
                embedded = _put(
                    embedded,
                    d_x,
                    jnp.where(first, row.backward.microbatch, self.schedule.microbatches),
                )
            return Carry(inputs, gradients, embedded, layers, found), None

        return jax.lax.scan(tick, carry, rows)[0]

    def forward(self, carry: Carry, passes: Passes) -> jax.Array:
        """What a stage makes of an input."""
        return self.layer(passes, self.weights(passes), self.input(carry, passes))

    def backward(
        self, carry: Carry, passes: Passes, d_made: jax.Array | None
    ) -> tuple[Params, jax.Array]:
        """The gradients of a chunk's weights and of its input; an idle stage's are zero.

        d_made: the gradient of what the last layer made in this tick, where it may be due.
        """
        gradient = _at(carry.gradients, passes.gradient)
        if d_made is not None:
            last = self.schedule.stages - 1, self.schedule.repeats - 1
            is_last = (self.given.stage == last[0]) & (passes.chunk == last[1])
            gradient = jnp.where(is_last, d_made, gradient)
        gradient = jnp.where(passes.runs, gradient, 0)
        _, pull = jax.vjp(
            partial(self.layer, passes), self.weights(passes), self.input(carry, passes)
        )
        d_weights, d_x = pull(gradient)
        return d_weights, d_x

    def loss(self, found: Found, made: jax.Array, microbatch: Any) -> tuple[Found, jax.Array]:
        """`found` with a microbatch's loss, and the gradient of what the last stage has made."""
        is_last = self.given.stage == self.schedule.stages - 1
        more, d_made = spread_loss.cross_entropy(
            partial(self.model.implementation.norm, self.model.config),
            self.given.norm,
            self.given.table,
            jax.lax.psum(jnp.where(is_last, made, 0), AXIS),
            _at(self.given.targets, microbatch),
            self.given.scale / self.microbatches,
            AXIS,
        )
        more = more._replace(loss=more.loss / self.microbatches)
        return jax.tree.map(jnp.add, found, more), d_made

    def weights(self, passes: Passes) -> Params:
        """Those of the layer that a pass goes through."""
        return jax.tree.map(lambda leaf: _at(leaf, passes.chunk), self.given.layers)

    def input(self, carry: Carry, passes: Passes) -> jax.Array:
        """What the layer of a pass takes: an embedded microbatch, or what came from a stage."""
        embedded = _at(self.given.embedded, passes.microbatch)
        return jnp.where(self.is_first(passes), embedded, _at(carry.inputs, passes.input))

    def is_first(self, passes: Passes) -> jax.Array:
        """Whether it is the model's first layer that a pass goes through."""
        return (self.given.stage == 0) & (passes.chunk == 0)

    def layer(self, passes: Passes, weights: Params, x: jax.Array) -> jax.Array:
        """x after the layer of a pass."""
        number = passes.chunk.astype(jnp.uint32) * self.schedule.stages + self.given.stage
        key = jax.random.fold_in(self.given.keys[passes.microbatch], number)
        return self.model.implementation.layer(self.model.config, weights, x, key)

    def passed_on(self, x: jax.Array, step: int, places: jax.Array, passes: Passes) -> jax.Array:
        """The places with what the neighbour has made, where the plan has it arrive."""
        stages = self.schedule.stages
        ring = [(stage, (stage + step) % stages) for stage in range(stages)]
        return _put(places, jax.lax.ppermute(x, AXIS, ring), passes.arrives)


def _at(stack: jax.Array, index: Any) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)


def _put(stack: jax.Array, x: jax.Array, index: Any) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stack, x, index, 0)


def _add(stacks: Params, trees: Params, index: Any) -> Params:
    return jax.tree.map(
        lambda stack, leaf: _put(stack, _at(stack, index) + leaf, index), stacks, trees
    )
