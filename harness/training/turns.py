"""Two compiled steps measured in turns: blocks of steps A B B A ... in one process.

Whatever slows the machine slows both, so that their ratio shows where their own times do not.
"""

import gc
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from harness.comparing import paired, statistics
from harness.records.figures import WARM_UP_STEPS
from harness.training.agreement import agreed
from harness.training.stepping import fetched
from harness.training.timing import Clock, StepClock
from harness.training.train_step import Metrics

_ROUND = "ABBA"
_TRIED_STEPS = 2 * WARM_UP_STEPS  # of each side twice at first: they tell how long a step takes
# A block is much longer than the host's dispatch of a step, and than an operating system lets one
# process run before another's turn comes.
_DISPATCHES_IN_A_BLOCK = 20
_SHORTEST_BLOCK_SECONDS = 0.05
_FEWEST_STEPS = 2
_MORE_ROUNDS = 1.25  # before the interval is worked out again


class Stopped(Exception):
    """The turns were asked to stop before they were enough."""


class Walks(Protocol):
    """What takes steps, see `stepping.Walk`."""

    dispatch_seconds: list[float]

    def step(self) -> Metrics:
        """Dispatches the next step."""
        ...


@dataclass(frozen=True)
class Limits:
    """When it is enough: an interval of the ratio this narrow, or so many seconds."""

    percent: float
    seconds: float


@dataclass(frozen=True)
class Block:
    """Steps of one side in a row, as the record has them."""

    first_step: int  # the first one timed
    seconds_per_step: float


@dataclass(frozen=True)
class Turns:
    """The blocks of each side in the order of time, those of A first in the first round.

    left_out: the rounds in which the process was stopped, whose blocks are not among them.
    """

    block_steps: int
    a: list[Block]
    b: list[Block]
    limits: Limits
    left_out: int = 0

    def told(self, own: str, partner: str) -> dict[str, Any]:
        """The `turns` of the record of side `own`, "A" or "B"."""
        order = _ROUND * (len(self.a) // _ROUND.count("A"))
        blocks = self.a if own == "A" else self.b
        return {
            "partner": partner,
            "order": order if own == "A" else order.translate(str.maketrans("AB", "BA")),
            "block_steps": self.block_steps,
            "blocks": [vars(block) for block in blocks],
            "limits": vars(self.limits),
        }

    def suffice(self, limits: Limits) -> bool:
        """Whether measuring again by these limits would end no later than these turns did."""
        return self.limits.seconds >= limits.seconds or self.is_narrow(limits.percent)

    def ratio(self, margin: float) -> statistics.Ratio | None:
        """How the time of a step of B stands to one of A."""
        a, b = ([block.seconds_per_step for block in side] for side in (self.a, self.b))
        return paired.compare(a, b, margin)

    def is_narrow(self, percent: float) -> bool:
        """Whether the interval of the ratio is no wider than this."""
        ratio = self.ratio(0.0)
        if ratio is None or ratio.low is None or ratio.high is None:
            return False
        return ratio.high - ratio.low <= percent / 100 * ratio.value


class Side:
    """One of the two, with its state on the devices; `losses` of all its steps, by their number.

    paused: see `StepClock`; was_stopped: whether it said so in the last block.
    """

    def __init__(
        self,
        walk: Walks,
        first_step: int,
        clock: Clock = time.perf_counter,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._walk = walk
        self._step = first_step
        self._clock = StepClock(clock, paused)
        self.losses: dict[int, float] = {}
        self.was_stopped = False

    def block(self, steps: int) -> Block:
        """Takes one step of warm-up and `steps` more, and ends with an idle device."""
        waiting: Metrics | None = None
        seconds = []
        self.was_stopped = False
        self._clock.start()
        for _ in range(1 + steps):
            metrics = self._walk.step()
            if waiting is not None:
                seconds.append(self._finish(waiting))
            waiting = metrics
        assert waiting is not None
        seconds.append(self._finish(waiting))
        return Block(self._step - steps, sum(seconds[1:]) / steps)

    def _finish(self, metrics: Metrics) -> float:
        self.losses[self._step] = fetched(metrics)["loss"]
        self._step += 1
        time_ = self._clock.finished()
        self.was_stopped = self.was_stopped or time_.stopped
        return time_.seconds

    def block_steps(self, tried: Block) -> int:
        """How many steps make a block of this side long enough."""
        dispatch = float(np.median(self._walk.dispatch_seconds))
        wanted = max(_SHORTEST_BLOCK_SECONDS, _DISPATCHES_IN_A_BLOCK * dispatch)
        return max(_FEWEST_STEPS, math.ceil(wanted / tried.seconds_per_step))


def measure(
    a: Side,
    b: Side,
    limits: Limits,
    stop_asked: Callable[[int], bool] = lambda round_number: False,
    clock: Clock = time.perf_counter,
) -> Turns:
    """Runs rounds of four blocks A B B A until it is enough, in all processes alike.

    Raises Stopped when `stop_asked`, of the number of the round, says so.
    """
    begun = clock()
    for side in (a, b):
        side.block(_TRIED_STEPS)  # in which the device comes to its pace
    block_steps = _agreed(max(side.block_steps(side.block(_TRIED_STEPS)) for side in (a, b)))
    turns = Turns(block_steps, [], [], limits)
    left_out = 0
    to_check = paired.min_rounds()
    gc.collect()
    gc.freeze()  # as in a run: the collector need not walk what lives to the end
    try:
        for rounds in itertools.count(1):
            was_stopped = False
            for letter in _ROUND:
                side, blocks = (a, turns.a) if letter == "A" else (b, turns.b)
                blocks.append(side.block(block_steps))
                was_stopped = was_stopped or side.was_stopped
            if _agreed(was_stopped):
                del turns.a[-2:], turns.b[-2:]
                left_out += 1
            if stop_asked(rounds):
                raise Stopped("asked to stop")
            is_enough = clock() - begun >= limits.seconds
            if rounds >= to_check:
                is_enough = is_enough or turns.is_narrow(limits.percent)
                to_check = math.ceil(_MORE_ROUNDS * rounds)
            if turns.a and _agreed(is_enough):
                break
    finally:
        gc.unfreeze()
    return replace(turns, left_out=left_out)


def _agreed(own: Any) -> Any:
    """What process 0 has."""
    return agreed(lambda: own)


def of_records(a: Mapping[str, Any], b: Mapping[str, Any]) -> Turns | None:
    """The turns that two runs took with each other, by their records; None if they took none."""
    of_a, of_b = a.get("turns"), b.get("turns")
    if not of_a or not of_b or (of_a["partner"], of_b["partner"]) != (b["run_id"], a["run_id"]):
        return None
    blocks_a, blocks_b = ([Block(**block) for block in one["blocks"]] for one in (of_a, of_b))
    limits = of_a.get("limits") or {"percent": 0.0, "seconds": 0.0}
    return Turns(of_a["block_steps"], blocks_a, blocks_b, Limits(**limits))


def first_difference(side: Side, steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first step of a run alone, as its record has it, whose loss is another one in turns."""
    for entry in steps:
        loss = side.losses.get(entry["step"])
        if loss is not None and entry["loss"] != (loss if math.isfinite(loss) else None):
            return entry
    return None
