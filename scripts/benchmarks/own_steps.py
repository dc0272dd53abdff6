"""Serves synchronised steps of one implementation: `own_steps.py CASE IMPL RECIPE SET...`."""

import sys

from serving import serve

from harness.cases import reading
from harness.training import devices, train_step
from harness.training.parallel import mesh


def main(name: str, impl: str, recipe: str, overrides: list[str]) -> None:
    """Compiles the tiny case's step and serves it."""
    here = devices.prepare(None)
    case = reading.load(name, "tiny", overrides, recipe)
    trainer = train_step.make_trainer(case, impl, mesh.make(case, here))
    init = train_step.compile_step(train_step.lower_init(trainer), trainer)
    step = train_step.compile_step(train_step.trace_step(trainer).lower(), trainer)
    inputs = train_step.make_inputs(case, trainer.grid)
    serve(lambda state: step(state, inputs), train_step.lay_out(trainer, step, init(inputs.seed)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
