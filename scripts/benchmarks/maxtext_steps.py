"""Serves synchronised steps of MaxText: `maxtext_steps.py CONFIG KEY=VALUE...`, in its environment.

Follows its train_loop up to the first step, with its functions as they are; what its own loop does
between steps (loading a batch, logging) is left out, as it is for ours.
"""

import sys

import jax
from flax import linen, nnx
from flax.linen import partitioning
from maxtext.trainers.pre_train import train  # type: ignore[import-not-found,unused-ignore]
from serving import serve


def main(argv: list[str]) -> None:
    """Compiles the step and serves it."""
    config, recorder = train.initialize(argv)
    key, _, shardings, model, mesh, _, _, loader, rampup, _, state = (
        train.train_utils.setup_train_loop(config, recorder)
    )
    is_linen = isinstance(model, linen.Module)
    if not is_linen:
        model, state = nnx.split(state)
    params, shardings = train.sharding.maybe_update_params_sharding_with_opt(config, shardings)
    step, _ = train.train_utils.jit_train_and_eval_step(
        config, model, mesh, state, shardings, train.train_step, train.eval_step, None, params
    )
    batch = loader.load_next_batch(rampup_manager=rampup)
    extra = (jax.random.fold_in(key, 0),) if is_linen else ()
    with jax.set_mesh(mesh), mesh, partitioning.axis_rules(config.logical_axis_rules):
        serve(lambda state: step(state, batch, *extra), state)


if __name__ == "__main__":
    main(sys.argv)
