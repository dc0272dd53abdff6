"""Waits that end: work in a thread of its own, given up after a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Work(Future[T]):
    """What work in a thread of its own comes to."""

    thread: threading.Thread


def start(work: Callable[[], T]) -> Work[T]:
    """Runs `work` in a thread that does not keep the process alive, nor do threads it starts."""
    outcome: Work[T] = Work()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    outcome.thread = threading.Thread(target=run, daemon=True)
    outcome.thread.start()
    return outcome


def wait(outcome: Work[T], seconds: float) -> T:
    """The work's result, or what it raised; TimeoutError after `seconds`."""
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():  # the work itself raised it
            raise
        raise TimeoutError(f"waited {seconds:g} seconds") from None
    finally:
        if outcome.done():
            # The thread lets go of arrays last, which must not be while the process ends: C++ code
            # that is interrupted then calls std::terminate.
            outcome.thread.join()
