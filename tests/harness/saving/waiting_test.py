import functools
import threading
import time

import pytest

from harness.saving import waiting


def test_work_is_waited_for_and_gives_its_result() -> None:
    assert waiting.wait(waiting.start(lambda: 3), 10) == 3


def test_what_the_work_raises_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        waiting.wait(waiting.start(fail), 10)


def test_nothing_is_left_of_work_that_was_waited_for() -> None:
    class Slow:
        def __del__(self) -> None:
            time.sleep(0.05)

    before, alone = threading.active_count(), threading.Event()
    outcome = waiting.start(functools.partial(lambda held: alone.wait(10), Slow()))
    alone.set()  # now nothing but the thread holds it
    assert waiting.wait(outcome, 10)
    assert threading.active_count() == before


def test_a_wait_ends_though_the_work_does_not() -> None:
    never = threading.Event()
    outcome = waiting.start(never.wait)
    with pytest.raises(TimeoutError, match=r"^waited 0.01 seconds$"):
        waiting.wait(outcome, 0.01)
    never.set()
    assert waiting.wait(outcome, 10) is True
