"""Saves one step after the other until killed: `checkpoint_saver.py FOLDER async|sync`.

Goes on after the newest step there. Prints a line once a step is committed, or why it is not.
"""

import sys

import jax
from checkpoint_states import CASE, abstract_state, make_state

from harness.cases.settings import Checkpoint
from harness.saving.checkpointer import Checkpointer, CheckpointError


def main(directory: str, mode: str) -> None:
    settings = Checkpoint(async_=mode == "async")
    checkpointer = Checkpointer(directory, settings, {"case": CASE}, timeout_seconds=60)
    checkpointer.open(resume=True)
    restored = checkpointer.resume(abstract_state(1))
    step = -1 if restored is None or restored.step is None else restored.step
    print("begins after", step, flush=True)
    while True:
        step += 1
        checkpointer.save(step, make_state(step, devices=1))
        checkpointer.finish()
        print("committed", step, flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    try:
        main(sys.argv[1], sys.argv[2])
    except CheckpointError as error:
        print(error, flush=True)
