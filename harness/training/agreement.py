"""What the processes of a run agree on: one finding for all, and one step to stop at."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import jax
import numpy as np

from harness.terminal.errors import UserError

T = TypeVar("T")


def agreed(find: Callable[[], T]) -> T:
    """What process 0 finds, in every process: also its UserError. It must fit into JSON."""
    if jax.process_count() == 1:
        return find()
    from jax.experimental import multihost_utils

    found: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            found = {"found": find()}
        except UserError as error:
            found = {"error": str(error)}
    text = json.dumps(found).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.frombuffer(text[:length].ljust(length), np.uint8)
    found = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))
    if "error" in found:
        raise UserError(found["error"])
    result: T = found["found"]
    return result


@contextmanager
def termination() -> Iterator[Callable[[int], bool]]:
    """Tells, at each step, whether SIGTERM has come and this step is the one to save and end at."""
    if jax.process_count() > 1:
        # JAX has its own handler then, and agrees with all processes on one step.
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: came
    finally:
        signal.signal(signal.SIGTERM, previous)
