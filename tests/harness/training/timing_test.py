import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.training import timing
from harness.training.timing import StepClock, StepTime, Stopwatch


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def finish_after(clock: FakeClock, step_clock: StepClock, seconds: float) -> StepTime:
    clock.advance(seconds)
    return step_clock.finished()


def test_a_step_lasts_from_one_completion_to_the_next(clock: FakeClock) -> None:
    step_clock = StepClock(clock)
    clock.advance(7)
    step_clock.start()
    times = [finish_after(clock, step_clock, seconds) for seconds in (5, 1, 2, 3, 4)]
    assert [step.seconds for step in times] == [5, 1, 2, 3, 4]
    assert step_clock.first_step_seconds == 5


def test_the_first_step_and_two_of_warm_up_are_no_samples(clock: FakeClock) -> None:
    step_clock = StepClock(clock)
    assert step_clock.first_step_seconds is None
    step_clock.start()
    times = [finish_after(clock, step_clock, seconds) for seconds in (5, 4, 3, 1, 2)]
    assert [step.is_sample for step in times] == [False, False, False, True, True]
    assert step_clock.samples == [1, 2]


def test_a_step_in_which_the_process_was_stopped_is_no_sample_nor_is_the_next(
    clock: FakeClock,
) -> None:
    pauses = [False]  # asked and cleared, as by Pauses.came
    step_clock = StepClock(clock, lambda: pauses.pop() if len(pauses) > 1 else pauses[0])
    step_clock.start()
    for seconds in (5, 1, 1, 2, 2):
        finish_after(clock, step_clock, seconds)
    pauses.append(True)
    stopped = [finish_after(clock, step_clock, seconds).stopped for seconds in (60, 0.1, 3)]
    assert stopped == [True, True, False]
    assert step_clock.samples == [2, 2, 3]
    pauses.append(True)  # in a save
    step_clock.start(after_save=True)
    assert not finish_after(clock, step_clock, 3).stopped


def test_a_save_is_in_no_step_and_the_step_after_it_is_flagged(clock: FakeClock) -> None:
    step_clock = StepClock(clock)
    step_clock.start()
    for _ in range(5):
        finish_after(clock, step_clock, 1)
    clock.advance(47)  # the save
    step_clock.start(after_save=True)
    after, next_one = (finish_after(clock, step_clock, seconds) for seconds in (3, 1))
    assert (after.seconds, after.after_save, after.is_sample) == (3, True, False)
    assert (next_one.seconds, next_one.after_save, next_one.is_sample) == (1, False, True)
    assert step_clock.samples == [1, 1, 1]


def test_a_step_that_begins_from_an_idle_device_is_no_sample_without_a_save_either(
    clock: FakeClock,
) -> None:
    step_clock = StepClock(clock)
    step_clock.start()
    for _ in range(4):
        finish_after(clock, step_clock, 1)
    step_clock.start()
    step = finish_after(clock, step_clock, 9)
    assert (step.after_save, step.is_sample) == (False, False)


def test_a_save_during_warm_up_does_not_shorten_it(clock: FakeClock) -> None:
    step_clock = StepClock(clock)
    step_clock.start()
    finish_after(clock, step_clock, 1)
    step_clock.start(after_save=True)
    times = [finish_after(clock, step_clock, 1) for _ in range(3)]
    assert [step.is_sample for step in times] == [False, False, True]


def test_a_step_clock_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="before start"):
        StepClock().finished()


def test_phases_are_measured_apart_and_add_up(clock: FakeClock) -> None:
    stopwatch = Stopwatch(clock)
    with stopwatch.phase("lower_seconds"):
        clock.advance(2)
    clock.advance(50)
    with stopwatch.phase("compile_seconds"):
        clock.advance(3)
    with stopwatch.phase("lower_seconds"):
        clock.advance(4)
    assert stopwatch.seconds == {"lower_seconds": 6, "compile_seconds": 3}


def test_a_phase_that_fails_is_still_measured(clock: FakeClock) -> None:
    stopwatch = Stopwatch(clock)

    def fail() -> None:
        clock.advance(2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), stopwatch.phase("compile_seconds"):
        fail()
    assert stopwatch.seconds == {"compile_seconds": 2}


def test_the_age_of_the_process_counts_from_before_the_interpreter() -> None:
    code = (
        "import time; time.sleep(0.3)\n"
        "from harness.training.timing import process_age_seconds; print(process_age_seconds())"
    )
    start = time.perf_counter()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - start
    assert 0.3 < float(found.stdout) < elapsed + 0.02


def test_the_age_is_unknown_where_the_system_does_not_tell_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_path: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(timing.Path, "read_text", refuse)
    assert timing.process_age_seconds() is None
