"""Turns with steps of known length: what is timed, when it is enough, and what it needs."""

import itertools
from typing import Any

import numpy as np
import pytest

from harness.records import record
from harness.training import turns
from harness.training.turns import Limits, Side, Stopped


class Machine:
    """A clock, and steps that take as long as they are told to."""

    def __init__(self, dispatch: float = 1e-4) -> None:
        self.now = 0.0
        self.dispatch = dispatch
        self.log = ""
        self.was_paused = False

    def clock(self) -> float:
        return self.now

    def side(self, name: str, seconds: Any, first_step: int = 0) -> Side:
        return Side(Walk(self, name, iter(seconds)), first_step, self.clock, self.paused)

    def paused(self) -> bool:
        paused, self.was_paused = self.was_paused, False
        return paused


class Walk:
    """Steps of one side, each as long as the next of `seconds` says; the loss is its number."""

    def __init__(self, machine: Machine, name: str, seconds: Any) -> None:
        self.machine, self.name, self.seconds = machine, name, seconds
        self.dispatch_seconds: list[float] = []
        self.number = 0

    def step(self) -> dict[str, Any]:
        self.machine.log += self.name
        self.dispatch_seconds.append(self.machine.dispatch)
        self.number += 1
        return {"loss": Loss(self.machine, next(self.seconds), self.number)}


class Loss:
    """A number that is there once the device has taken its time."""

    def __init__(self, machine: Machine, seconds: float, value: float) -> None:
        self.machine, self.seconds, self.value = machine, seconds, value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.machine.now += self.seconds
        return np.array(self.value, dtype)


def constant(seconds: float) -> Any:
    return itertools.repeat(seconds)


def test_blocks_come_in_the_order_a_b_b_a_and_hold_what_their_steps_took() -> None:
    machine = Machine()
    a, b = machine.side("a", constant(0.010)), machine.side("b", constant(0.011), first_step=7)
    found = turns.measure(a, b, Limits(1.0, 2.9), clock=machine.clock)
    assert found.block_steps == 5
    rounds = len(found.a) // 2
    tried = 2 * ("a" * 7) + 2 * ("b" * 7)
    assert sorted(machine.log[:28]) == sorted(tried)
    assert machine.log[28:] == ("a" * 6 + "b" * 12 + "a" * 6) * rounds
    assert [block.seconds_per_step for block in found.a] == pytest.approx([0.010] * 2 * rounds)
    assert [block.seconds_per_step for block in found.b] == pytest.approx([0.011] * 2 * rounds)
    assert [block.first_step for block in found.a[:3]] == [15, 21, 27]
    assert found.b[0].first_step == 22
    ratio = found.ratio(0.01)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.1)


def test_a_round_in_which_the_process_was_stopped_is_left_out() -> None:
    machine = Machine()

    def stopped_now_and_then() -> Any:
        for step in itertools.count():
            machine.was_paused = step > 14 and step % 60 == 17
            yield 1.0 if machine.was_paused else 0.01

    a, b = machine.side("a", stopped_now_and_then()), machine.side("b", constant(0.011))
    found = turns.measure(a, b, Limits(1.0, 9.0), clock=machine.clock)
    assert found.left_out > 1
    assert len(found.a) == len(found.b) > 4
    assert [block.seconds_per_step for block in found.a] == pytest.approx([0.01] * len(found.a))


def test_the_first_step_of_a_block_is_warm_up() -> None:
    machine = Machine()
    slow_first = itertools.cycle([1.0, *[0.01] * 6])
    a = machine.side("a", slow_first)
    assert a.block(6).seconds_per_step == pytest.approx(0.01)
    assert a.block(6).seconds_per_step == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("step", "dispatch", "steps"),
    [(0.001, 1e-5, 50), (0.001, 0.01, 200), (0.3, 0.001, 2), (0.02, 0.001, 3)],
)
def test_a_block_is_much_longer_than_a_dispatch(step: float, dispatch: float, steps: int) -> None:
    machine = Machine(dispatch)
    side = machine.side("a", constant(step))
    assert side.block_steps(side.block(6)) == steps


def test_it_is_enough_when_the_interval_is_narrow() -> None:
    machine = Machine()
    a, b = machine.side("a", constant(0.01)), machine.side("b", constant(0.01))
    found = turns.measure(a, b, Limits(1.0, 1000.0), clock=machine.clock)
    assert len(found.a) == 2 * 8  # the fewest that have an interval


def test_or_when_the_time_is_over() -> None:
    machine = Machine()
    noise = np.random.default_rng(0).lognormal(-4, 1, 100_000).tolist()
    a, b = machine.side("a", noise[::2]), machine.side("b", noise[1::2])
    found = turns.measure(a, b, Limits(0.01, 30.0), clock=machine.clock)
    assert 30 < machine.now < 33
    assert len(found.a) == len(found.b) > 16


def test_who_is_asked_to_stop_does() -> None:
    machine = Machine()
    a, b = machine.side("a", constant(0.01)), machine.side("b", constant(0.01))
    with pytest.raises(Stopped):
        turns.measure(a, b, Limits(1.0, 9.0), lambda number: number == 3, machine.clock)
    assert machine.now < 2


def test_each_record_is_told_its_own_blocks_and_the_order_of_all() -> None:
    machine = Machine()
    a, b = machine.side("a", constant(0.01)), machine.side("b", constant(0.02))
    found = turns.measure(a, b, Limits(1.0, 0.5), clock=machine.clock)
    of_a, of_b = found.told("A", "second"), found.told("B", "first")
    assert (of_a["partner"], of_b["partner"]) == ("second", "first")
    assert of_a["order"].startswith("ABBA")
    assert of_b["order"].startswith("BAAB")
    assert len(of_a["blocks"]) == of_a["order"].count("A") == of_b["order"].count("A")
    assert of_b["blocks"][0]["seconds_per_step"] == pytest.approx(0.02)
    record.validate(record.blank("first", "completed") | {"turns": of_a})
    record.validate(record.blank("first", "completed") | {"turns": None})


def test_they_are_read_back_and_suffice_for_no_stricter_limits() -> None:
    machine = Machine()
    a, b = machine.side("a", constant(0.01)), machine.side("b", constant(0.02))
    found = turns.measure(a, b, Limits(0.0, 0.5), clock=machine.clock)
    of_a = {"run_id": "first", "turns": found.told("A", "second")}
    of_b = {"run_id": "second", "turns": found.told("B", "first")}
    assert turns.of_records(of_a, of_b) == found
    assert turns.of_records(of_a, of_b | {"run_id": "third"}) is None
    assert turns.of_records(of_a, {"run_id": "second"}) is None
    assert found.suffice(Limits(0.0, 0.5))
    assert not found.suffice(Limits(-1.0, 0.6))  # narrower than none: nothing here varies


def test_the_first_step_that_differs_from_the_run_alone_is_found() -> None:
    side = Machine().side("a", constant(0.01), first_step=3)
    side.block(4)  # steps 3 to 7 with the losses 1 to 5
    alone: list[dict[str, Any]] = [{"step": step, "loss": step - 2.0} for step in range(12)]
    assert turns.first_difference(side, alone) is None
    alone[6]["loss"] = alone[7]["loss"] = None
    assert turns.first_difference(side, alone) is alone[6]
    side.losses[6] = float("nan")
    assert turns.first_difference(side, alone) is alone[7]
