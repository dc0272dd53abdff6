"""A batch in parts has the loss, the metrics and the gradients of the whole."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from harness.cases import reading
from harness.training import data, train_step
from harness.training.accumulation import accumulated, differentiated
from harness.training.parallel import mesh
from models.seam import Outcome

# Targets below 0 are none: the microbatches count unequally.
TARGETS = jnp.array([[1.0, 2, 3, -1], [4, -1, -1, -1], [5, 6, 7, 8], [-1, 9, -1, -1]])
COUNTS = ("live", "total_weights")


def forward(params: Any, model_state: Any, batch: Any, key: jax.Array) -> Outcome:
    """A mean of squares; its state counts targets."""
    live = (batch["targets"] > 0).astype(params.dtype)
    count = live.sum()
    among = jnp.maximum(count, 1)
    errors = live * (params[None] * batch["targets"] - 1) ** 2
    metrics = {"mean": (live * batch["targets"]).sum() / among}
    after = {"seen": model_state["seen"] + count}
    return Outcome(errors.sum() / among, {**metrics, "live": count, "total_weights": count}, after)


@pytest.mark.parametrize(
    ("targets", "scale", "live"),
    [(TARGETS, None, 9), (TARGETS, 1024.0, 9), (jnp.full((4, 4), -1.0), None, 0)],
)
def test_unequal_parts_make_the_whole(targets: jax.Array, scale: float | None, live: int) -> None:
    params: Any = jnp.array([0.5, -1, 2, 3])
    state = {"seen": jnp.float32(7)}
    given = None if scale is None else jnp.float32(scale)
    key = jax.random.key(0)
    whole = differentiated(forward, params, state, {"targets": targets}, key, given)
    stacked = {"targets": targets.reshape(2, 2, 4)}
    parts = jax.jit(lambda p, s, b: accumulated(forward, p, s, b, key, COUNTS, given))(
        params, state, stacked
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, parts)
    assert float(parts[0].metrics["live"]) == live


def test_equal_parts_are_summed_in_the_type_of_the_parameters_as_they_are() -> None:
    """Eight equal gradients of 9000 add up to more than float16 holds."""
    batch = {"targets": jnp.ones((8, 1, 1), jnp.float16)}

    def linear(params: Any, _: Any, batch: Any, key: jax.Array) -> Outcome:
        loss = (params * batch["targets"]).sum().astype(jnp.float32)
        return Outcome(loss, {"total_weights": jnp.float32(batch["targets"].size)})

    def gradient(scale: float) -> Any:
        params: Any = jnp.ones((), jnp.float16)
        key, given = jax.random.key(0), jnp.float32(scale)
        return accumulated(linear, params, None, batch, key, ("total_weights",), given)[1]

    assert gradient(8 * 8000).dtype == jnp.float16
    assert float(gradient(8 * 8000)) == 64000
    assert np.isinf(gradient(8 * 9000))


def test_each_part_has_a_key_of_its_own() -> None:
    def random(params: Any, _: Any, batch: Any, key: jax.Array) -> Outcome:
        loss = params * jax.random.uniform(key)
        return Outcome(loss, {"loss_of_one": loss, "total_weights": jnp.float32(1)})

    key, params = jax.random.key(3), cast(Any, jnp.ones(()))
    batch = {"targets": jnp.zeros((2, 1, 1))}
    counts = ("loss_of_one", "total_weights")
    outcome, _ = accumulated(random, params, None, batch, key, counts)
    keys = [jax.random.fold_in(key, number) for number in range(2)]
    expected = sum(float(jax.random.uniform(one)) for one in keys)
    assert float(outcome.metrics["loss_of_one"]) == pytest.approx(expected)
    assert float(outcome.loss) == pytest.approx(expected / 2)


def test_a_step_of_microbatches_is_the_step_of_the_batch() -> None:
    """Over several devices too."""
    losses = []
    for more in ([], ["data.microbatches=2"]):
        settings = ["data.global_batch=4", "data.sequence_length=8", *more]
        case = reading.load("00_pair", "tiny", settings, twins="toy_family")
        grid = mesh.make(case, jax.devices()[:2])
        trainer = train_step.make_trainer(case, "linen", grid)
        compiled = programs.step_of(trainer)
        inputs = train_step.make_inputs(case, grid)
        state = programs.fresh_state(trainer, inputs.seed)
        metrics: Any = {}
        for _ in range(3):
            state, metrics = compiled(state, inputs)
        losses.append({name: float(value) for name, value in metrics.items()})
        assert data.global_batch(case, 2) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0].keys() > {"accuracy", "loss", "grad_norm"}
