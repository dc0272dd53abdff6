"""The worker's side of measuring.Worker; needs JAX and nothing of the harness."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax


def serve(step: Callable[[Any], tuple[Any, Any]], state: Any) -> None:
    """Runs steps as standard input asks for them, waiting for the device after each."""
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            state, metrics = step(state)
            jax.block_until_ready((state, metrics))
            seconds.append(time.perf_counter() - begun)
        print(f"seconds: {json.dumps(seconds)}", flush=True)
