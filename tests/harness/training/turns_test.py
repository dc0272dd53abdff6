"""Turns of two sides that a made-up clock makes as fast as the test says."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.training import turns
from harness.training.turns import Block, Limits, Side, Stopped, Turns


class Machine:
    """The clock that both sides share, and how slow the machine is just now."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now = 0.0
        self.busy_until = 0.0
        self.slowness = slowness

    def __call__(self) -> float:
        return self.now


class Walk:
    """Steps of so many seconds; the loss of a step is its number, and more from `parts_at`."""

    def __init__(self, machine: Machine, seconds: float, parts_at: float = math.inf) -> None:
        self.machine, self.seconds, self.parts_at = machine, seconds, parts_at
        self.taken = 0
        self.dispatch_seconds = [1e-4]

    def step(self) -> Any:
        machine = self.machine
        start = max(machine.now, machine.busy_until)
        machine.busy_until = done = start + self.seconds * machine.slowness(start)
        self.taken += 1
        loss = self.taken + (0.5 if self.taken >= self.parts_at else 0.0)

        def wait() -> dict[str, float]:
            machine.now = max(machine.now, done)
            return {"loss": loss}

        return wait


@pytest.fixture(autouse=True)
def waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "fetched", lambda metrics: metrics())


def sides(machine: Machine, a: float, b: float, **of_b: float) -> tuple[Side, Side]:
    walks = Walk(machine, a), Walk(machine, b, **of_b)
    return Side(walks[0], 10, machine), Side(walks[1], 10, machine)


def test_a_block_is_timed_without_its_first_step() -> None:
    machine = Machine(lambda now: 100.0 if now == 0 else 1.0)
    side, _ = sides(machine, 0.5, 1.0)
    block = side.block(4)
    assert block == Block(11, 0.5)
    assert side.block(4).first_step == 16
    assert side.losses[10] == 1.0
    assert sorted(side.losses) == list(range(10, 20))


@pytest.mark.parametrize(
    ("seconds", "dispatch", "steps"), [(0.001, 1e-4, 50), (0.001, 0.01, 200), (1.0, 1e-4, 2)]
)
def test_a_block_is_long_against_the_dispatch_and_the_systems_turns(
    seconds: float, dispatch: float, steps: int
) -> None:
    machine = Machine()
    walk = Walk(machine, seconds)
    walk.dispatch_seconds = [dispatch]
    assert Side(walk, 0, machine).block_steps(Block(0, seconds)) == steps


def test_a_ratio_survives_a_machine_that_becomes_slower_and_slower() -> None:
    machine = Machine(lambda now: 1 + now)
    a, b = sides(machine, 0.02, 0.03)
    measured = turns.measure(a, b, Limits(percent=1, seconds=200), clock=machine)
    assert len(measured.a) == len(measured.b)
    ratio = measured.ratio(0.01)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.5, rel=0.05)
    assert ratio.direction == "higher"


def test_it_is_enough_when_the_time_is_up() -> None:
    machine = Machine()
    a, b = sides(machine, 0.05, 0.05)
    measured = turns.measure(a, b, Limits(percent=0, seconds=2), clock=machine)
    assert 2 <= machine.now < 4
    assert len(measured.a) % 2 == 0


def test_it_is_not_gone_on_when_it_is_asked_to_stop() -> None:
    machine = Machine()
    a, b = sides(machine, 0.05, 0.05)
    with pytest.raises(Stopped):
        turns.measure(a, b, Limits(0, 1e9), lambda number: number == 3, machine)


def test_each_side_tells_its_own_blocks_and_the_order() -> None:
    blocks = [Block(3, 0.5), Block(9, 0.6)]
    others = [Block(3, 0.7), Block(9, 0.8)]
    made = Turns(4, blocks, others)
    assert made.told("A", "nnx") == {
        "partner": "nnx",
        "order": "ABBA",
        "block_steps": 4,
        "blocks": [
            {"first_step": 3, "seconds_per_step": 0.5},
            {"first_step": 9, "seconds_per_step": 0.6},
        ],
    }
    told = made.told("B", "linen")
    assert (told["order"], told["blocks"][0]["seconds_per_step"]) == ("BAAB", 0.7)


def test_another_loss_than_in_the_run_alone_is_found() -> None:
    machine = Machine()
    _, side = sides(machine, 0.5, 0.5, parts_at=3)
    side.block(4)
    alone = [{"step": step, "loss": float(step - 9)} for step in range(20)]
    assert turns.first_difference(side, alone) == {"step": 12, "loss": 3.0}
    assert turns.first_difference(side, alone[:12]) is None
    side.losses = {4: math.nan}
    assert turns.first_difference(side, [{"step": 4, "loss": None}]) is None


def test_both_states_are_held_and_the_larger_step_runs() -> None:
    names = ("argument_bytes", "total_bytes", "generated_code_bytes")
    a, b = (dict(zip(names, sizes, strict=True)) for sizes in ((100, 150, 1), (110, 130, 2)))
    assert turns.needed_bytes(a, b) == 100 + 1 + 110 + 2 + 50
    assert turns.needed_bytes(a, {**b, "total_bytes": None}) is None
