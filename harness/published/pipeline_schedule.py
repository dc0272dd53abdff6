"""Whether the ranks of a pipeline did what its schedule says, and whether peers did the same.

The schedule is breadth first over virtual stages ("chunks"): a rank runs every microbatch through
its first chunk, then through the next. Of the last stage we know the whole order; what other stages
do before their first backward step depends on the transport and is not checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple


class Operation(NamedTuple):
    """One pass of one microbatch through one chunk, by the number it has in a log."""

    direction: str  # "forward" or "backward"
    tensor: int

    def __str__(self) -> str:
        """Such as "forward 28"."""
        return f"{self.direction} {self.tensor}"


class Event(NamedTuple):
    """An operation that starts or has finished on a rank."""

    rank: int
    operation: Operation
    moment: str  # "start" or "finished"


@dataclass(frozen=True)
class Shape:
    """What a schedule follows from; ranks of one tensor-parallel group stand side by side."""

    stages: int
    chunks: int
    microbatches: int
    tensor_parallel: int
    ranks_per_stage: int

    def is_last(self, rank: int) -> bool:
        """Whether a rank belongs to the last stage."""
        return rank // self.ranks_per_stage == self.stages - 1

    def tensor(self, microbatch: int, chunk: int) -> int:
        """The number of a microbatch in a chunk: groups of as many microbatches as stages."""
        group, place = divmod(microbatch, self.stages)
        return self.stages * (self.chunks * group + chunk) + place


@dataclass(frozen=True)
class Check:
    """Of one iteration: events, how many are not where they belong, and where peers part."""

    events: int
    checked: int
    mismatches: int
    first_mismatch: str | None
    disagreement: str | None


def last_stage(shape: Shape) -> list[Operation]:
    """The order of the last stage.

    All forwards but those of the last chunk, then a forward and a backward in turn, then the
    backwards that are left; these visit the chunks from the last to the first.
    """
    places = [
        (microbatch, chunk)
        for chunk in range(shape.chunks)
        for microbatch in range(shape.microbatches)
    ]
    # A backward pass has the number that the forward of the mirrored chunk had: both count up.
    forwards = [Operation("forward", shape.tensor(*place)) for place in places]
    backwards = [Operation("backward", operation.tensor) for operation in forwards]
    warm_up = (shape.chunks - 1) * shape.microbatches
    order = forwards[:warm_up]
    for forward, backward in zip(forwards[warm_up:], backwards, strict=False):
        order += [forward, backward]
    return order + backwards[shape.microbatches :]


def check(shape: Shape, events: Sequence[Event], complete: bool) -> Check:
    """Compares an iteration's events with the schedule and peers with each other.

    An iteration that is not complete is checked as far as it goes.
    """
    expected = [
        (operation, moment) for operation in last_stage(shape) for moment in ("start", "finished")
    ]
    mismatches = []
    for rank, happened in _by_rank(shape, events).items():
        places = zip_longest(happened, expected if complete else expected[: len(happened)])
        mismatches += [
            f"event {place} of rank {rank} is {_named(event)}, the schedule has {_named(should_be)}"
            for place, (event, should_be) in enumerate(places, start=1)
            if event != should_be
        ]
    checked = sum(shape.is_last(event.rank) for event in events)
    return Check(
        len(events), checked, len(mismatches), next(iter(mismatches), None), _part(shape, events)
    )


def orders(events: Sequence[Event]) -> dict[int, list[Operation]]:
    """What each rank started, in order."""
    started: dict[int, list[Operation]] = {}
    for event in events:
        if event.moment == "start":
            started.setdefault(event.rank, []).append(event.operation)
    return dict(sorted(started.items()))


def _by_rank(shape: Shape, events: Sequence[Event]) -> dict[int, list[tuple[Operation, str]]]:
    """What happened on each rank of the last stage."""
    happened: dict[int, list[tuple[Operation, str]]] = {}
    for event in events:
        if shape.is_last(event.rank):
            happened.setdefault(event.rank, []).append((event.operation, event.moment))
    return happened


def _part(shape: Shape, events: Sequence[Event]) -> str | None:
    """The first operation at which a rank and its tensor-parallel peer do different things."""
    started = orders(events)
    expected = last_stage(shape)
    for rank, order in started.items():
        leader = next(peer for peer in started if _group(shape, peer) == _group(shape, rank))
        for place, (one, other) in enumerate(zip(started[leader], order, strict=False)):
            if one == other:
                continue
            scheduled = ""
            if shape.is_last(rank) and place < len(expected):
                scheduled = f"; the schedule has {expected[place]}"
            return (
                f"operation {place + 1}: rank {leader} runs {one}, "
                f"its tensor-parallel peer rank {rank} runs {other}{scheduled}"
            )
    return None


def _group(shape: Shape, rank: int) -> int:
    return rank // shape.tensor_parallel


def _named(event: tuple[Operation, str] | None) -> str:
    return "nothing" if event is None else f"{event[0]} {event[1]}"
