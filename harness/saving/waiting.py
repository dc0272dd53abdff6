"""Waits that end: work in a thread of its own, given up after a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start(work: Callable[[], T]) -> Future[T]:
    """Runs `work` in a thread that does not keep the process alive, nor do threads it starts."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def wait(outcome: Future[T], seconds: float) -> T:
    """The work's result, or what it raised; TimeoutError after `seconds`."""
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():  # the work itself raised it
            raise
        raise TimeoutError(f"waited {seconds:g} seconds") from None
