"""Saves one step after the other in the background, until killed: `checkpoint_saver.py FOLDER`.

Goes on after the newest step there. Prints a line once a step is committed.
"""

import sys

import jax
from checkpoint_states import CASE, abstract_state, make_state

from harness.checkpointing import Checkpointer
from harness.config import Checkpoint


def main(directory: str) -> None:
    checkpointer = Checkpointer(directory, Checkpoint(), {"case": CASE}, timeout_seconds=60)
    checkpointer.open(resume=True)
    restored = checkpointer.resume(abstract_state(1))
    step = -1 if restored is None else restored.step
    print("begins after", step, flush=True)
    while True:
        step += 1
        checkpointer.save(step, make_state(step, devices=1))
        checkpointer.finish()
        print("committed", step, flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main(sys.argv[1])
