"""One of two processes of four devices: `checkpoint_process.py PORT INDEX FOLDER STEP...`.

Resumes from the folder, tells what it found, and saves the steps given.
"""

import json
import sys

import jax
from checkpoint_states import CASE, abstract_state, make_state

from harness.cases.settings import Checkpoint
from harness.saving import digest
from harness.saving.checkpointer import Checkpointer


def main(directory: str, steps: list[int]) -> None:
    checkpointer = Checkpointer(directory, Checkpoint(), {"case": CASE}, timeout_seconds=60)
    checkpointer.open(resume=True)
    restored = checkpointer.resume(abstract_state())
    found = None
    if restored is not None:
        digests = digest.array_digests(restored.state)
        found = [restored.step, digest.combined(digests), restored.warnings]
    for step in steps:
        checkpointer.save(step, make_state(step))
    checkpointer.finish()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
    main(sys.argv[3], [int(step) for step in sys.argv[4:]])
