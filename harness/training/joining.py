"""Joins the hosts of a run, and says in a line what keeps them apart."""

import os
import socket
import sys
import threading
import time
import uuid
from typing import Any

import jax
import numpy as np

from harness.records import storage
from harness.terminal.errors import UserError
from harness.terminal.text import safe
from harness.training.agreement import agreed

# How long a silent process is waited for before the others abort, so that the job can restart.
_HEARTBEAT_SECONDS = 20
_LOOK_SECONDS = 10  # a mount that hosts share may show a file late
_FAILED = 1


def join(
    seconds: float,
    coordinator: str | None = None,
    count: int | None = None,
    index: int | None = None,
) -> None:
    """Connects this process with the others, as told or as JAX finds on a TPU by itself.

    A TPU that nothing tells of other hosts is alone. Raises UserError where what tells of them does
    not answer; the process ends with one line where they do not come in time.
    """
    if jax.distributed.is_initialized():
        return
    came = threading.Timer(seconds, _end_alone, [seconds])
    came.daemon = True
    came.start()
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            initialization_timeout=int(seconds) + 60,  # JAX's clients abort when it is over
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except Exception as error:
        if "coordinator_address should be defined" in str(error):
            return
        raise UserError(
            f"the hosts of this run cannot be joined: {safe(str(error), 200)}; on a TPU VM its"
            " metadata server tells of them, on GKE TPU_WORKER_HOSTNAMES; TPU_SKIP_MDS_QUERY=1 says"
            " that there is one host"
        ) from None
    finally:
        came.cancel()


def _end_alone(seconds: float) -> None:
    print(
        f"error: the other hosts did not come within {seconds:g} s: every host must run the"
        " same command at the same time; harness doctor, run on each, says what is"
        " missing",
        file=sys.stderr,
        flush=True,
    )
    os._exit(_FAILED)  # the thread that waits for them cannot be interrupted


def require_shared(place: Any) -> None:
    """Raises UserError, in all processes, unless each sees what the first one writes there."""
    if jax.process_count() == 1 or storage.is_remote(place):
        return
    from jax.experimental import multihost_utils

    def leave() -> str:
        token = place / f".{uuid.uuid4().hex}"
        with storage.errors_told(place):
            place.mkdir(parents=True, exist_ok=True)
            token.write_text("")
        return token.name

    token = place / agreed(leave)
    seen = multihost_utils.process_allgather(np.array(_appears(token)))
    if jax.process_index() == 0:
        token.unlink()
    blind = [index for index, sees in enumerate(seen.ravel()) if not sees]
    if blind:
        raise UserError(
            f"{place}: of {jax.process_count()} processes, {len(blind)} do not see what the first"
            f" one writes there, process {blind[0]} among them; saves need one place for all hosts:"
            " --results-dir gs://BUCKET/FOLDER or a mount that they share, or --set"
            " checkpoint.enabled=false"
        )


def _appears(path: Any) -> bool:
    deadline = time.monotonic() + _LOOK_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def hosts() -> list[str]:
    """The name of the host of each process, in their order; all processes ask together."""
    from jax.experimental import multihost_utils

    own = np.frombuffer(socket.gethostname().encode()[:64].ljust(64), np.uint8)
    names = multihost_utils.process_allgather(own)
    return [bytes(name).decode().rstrip() for name in names.reshape(-1, 64)]
