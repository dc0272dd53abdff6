"""The order of a pipeline, interleaved 1F1B: what each stage runs in which tick, and from where.

A stage holds `repeats` chunks of the model; chunk c of a stage is followed by chunk c of the next
one, and on the last stage by chunk c + 1 of the first. `group` microbatches pass a chunk before the
next chunk has its turn: all of them is breadth first, as many as there are stages keeps the fewest
inputs. The order of every stage is known in closed form:

* its forwards go group by group, chunk by chunk, microbatch by microbatch; its backwards the same,
  with the chunks from the last to the first;
* both go on without a gap from the tick in which they start, the forward before the backward.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from harness.terminal.errors import UserError

Direction = Literal["forward", "backward"]


class Event(NamedTuple):
    """One pass of one microbatch through one chunk."""

    direction: Direction
    microbatch: int
    chunk: int

    def __str__(self) -> str:
        """Such as F0.3, the forward of microbatch 0 through chunk 3."""
        return f"{self.direction[0].upper()}{self.microbatch}.{self.chunk}"


class Ticks(NamedTuple):
    """How many ticks run forwards alone, then both directions, then backwards alone."""

    warm: int
    steady: int
    cool: int


class Passes(NamedTuple):
    """What every stage runs in one direction in every tick; arrays [ticks, stages].

    What comes from another stage waits in a place: an input until its backward has run, a gradient
    until its backward runs. The last place of each kind is one whose contents nobody takes.
    """

    runs: np.ndarray  # bool; an idle stage is told of some pass
    microbatch: np.ndarray
    chunk: np.ndarray
    input: np.ndarray  # its place; the last one for the first chunk, whose input is the embedding
    gradient: np.ndarray  # likewise for the last chunk, whose gradient is the loss's
    arrives: np.ndarray  # at which place what comes in at the end of the tick is put


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A pipeline of these sizes; UserError for a group with which a pass would lack its input."""

    stages: int
    repeats: int
    microbatches: int
    group: int

    def __post_init__(self) -> None:
        """Refuses a group that is too small, or leaves microbatches over."""
        if self.group < self.stages or self.microbatches % self.group:
            raise UserError(
                f"pipeline.group={self.group}: must be at least {self.stages}, the number of"
                f" stages, and divide {self.microbatches}, the number of microbatches"
            )

    @property
    def ticks(self) -> Ticks:
        """Of the whole step."""
        lag = self._start("backward", self.stages - 1)
        return Ticks(lag, self.microbatches * self.repeats + self.stages - 1 - lag, lag)

    @property
    def bubble_percent(self) -> float:
        """How much of the time a stage is idle, if every pass of a direction takes as long."""
        idle = self.stages - 1
        return 100 * idle / (self.microbatches * self.repeats + idle)

    def order(self, stage: int) -> list[Event]:
        """Everything that a stage runs, one after the other."""
        events = [*self._events("forward"), *self._events("backward")]
        return sorted(events, key=lambda event: self._tick(stage, event))  # forwards stay first

    def inputs_kept(self, stage: int) -> int:
        """The most inputs that wait on a stage for their backwards at once."""
        steps = (1 if event.direction == "forward" else -1 for event in self.order(stage))
        return max(itertools.accumulate(steps))

    def losses(self) -> list[int | None]:
        """By tick, the microbatch that leaves the last chunk, so that its loss is due."""
        due: list[int | None] = [None] * sum(self.ticks)
        for event in self._events("forward"):
            if self._taker(self.stages - 1, event) is None:
                due[self._tick(self.stages - 1, event)] = event.microbatch
        return due

    def places(self, direction: Direction) -> int:
        """How many a device has for what comes this way, with the one that nobody takes from."""
        return 2 + max(self._places(direction).values(), default=-1)

    def passes(self, direction: Direction) -> Passes:
        """All passes of one direction."""
        inputs, gradients = self._places("forward"), self._places("backward")
        no_input, no_gradient = self.places("forward") - 1, self.places("backward") - 1
        sent, unread = (inputs, no_input) if direction == "forward" else (gradients, no_gradient)
        size = (sum(self.ticks), self.stages)
        runs, arrives = np.zeros(size, bool), np.full(size, unread)
        told = np.zeros((4, *size), int)
        for stage, event in itertools.product(range(self.stages), self._events(direction)):
            tick, where = self._tick(stage, event), (stage, *event[1:])
            runs[tick, stage] = True
            told[:, tick, stage] = (
                *event[1:],
                inputs.get(where, no_input),
                gradients.get(where, no_gradient),
            )
            taker = self._taker(stage, event)
            if taker is not None:
                arrives[tick, taker[0]] = sent[taker[0], *taker[1][1:]]
        return Passes(runs, told[0], told[1], told[2], told[3], arrives)

    def _events(self, direction: Direction) -> Iterator[Event]:
        """The passes of every stage in one direction, in their order."""
        chunks = range(self.repeats) if direction == "forward" else reversed(range(self.repeats))
        groups = range(0, self.microbatches, self.group)
        for first, chunk, more in itertools.product(groups, chunks, range(self.group)):
            yield Event(direction, first + more, chunk)

    def _start(self, direction: Direction, stage: int) -> int:
        """The tick of a stage's first pass."""
        if direction == "forward":
            return stage
        return (self.repeats - 1) * self.group + 2 * (self.stages - 1) - stage

    def _tick(self, stage: int, event: Event) -> int:
        """When a stage runs a pass."""
        group, place = divmod(event.microbatch, self.group)
        turn = event.chunk if event.direction == "forward" else self.repeats - 1 - event.chunk
        number = (group * self.repeats + turn) * self.group + place
        return self._start(event.direction, stage) + number

    def _taker(self, stage: int, event: Event) -> tuple[int, Event] | None:
        """Stage and pass that take what this one makes; None where the model ends or begins."""
        step = 1 if event.direction == "forward" else -1
        rounds, taking = divmod(stage + step, self.stages)
        chunk = event.chunk + rounds
        return (taking, event._replace(chunk=chunk)) if 0 <= chunk < self.repeats else None

    def _places(self, direction: Direction) -> dict[tuple[int, int, int], int]:
        """By stage, microbatch and chunk: the lowest place that is free when it is needed."""
        found = {}
        taken: list[list[int]] = [[] for _ in range(self.stages)]  # by place, until which tick
        for event, stage in itertools.product(self._events(direction), range(self.stages)):
            taker = self._taker(stage, event)
            if taker is None:
                continue
            taking, last = taker[0], taker[1]._replace(direction="backward")
            tick, busy = self._tick(stage, event), taken[taking]
            place = next((place for place, until in enumerate(busy) if until <= tick), len(busy))
            busy[place : place + 1] = [self._tick(taking, last)]
            found[taking, *last[1:]] = place
        return found
