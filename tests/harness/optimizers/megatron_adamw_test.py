from typing import Any

import gpt_inputs as inputs
import jax
import jax.numpy as jnp
import numpy as np
import plain_training
import pytest
from refusals import assert_refused

from harness.optimizers import megatron_adamw
from harness.optimizers.megatron_adamw import Settings


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("learning_rate", -1e-9, "must be at least 0"),
        ("min_learning_rate", -1e-9, "must be at least 0"),
        ("weight_decay", -0.1, "must be at least 0"),
        ("warmup_fraction", 1.0, "must lie in [0, 1)"),
        ("decay_steps", 0, "must be at least 1"),
        ("b1", 1.0, "must lie in [0, 1)"),
        ("epsilon", 0.0, "must be positive"),
        ("clip_norm", 0.0, "must be positive"),
        ("min_loss_scale", 0.0, "must be positive"),
        ("initial_loss_scale", 0.5, "must be at least min_loss_scale=1.0"),
        ("loss_scale_window", 0, "must be at least 1"),
        ("hysteresis", 0, "must be at least 1"),
    ],
)
def test_a_setting_without_a_meaning_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(Settings, field, value, allowed)


def test_the_rates_are_megatrons() -> None:
    rate = megatron_adamw.schedule(Settings(1e-3, 1e-4, 0.1, 20), steps=3)
    told = [step["learning_rate"] for step in inputs.RUNS["float32"]["steps"]]
    found = [float(rate(jnp.int32(count))) for count in range(len(told))]
    np.testing.assert_allclose(found, told, rtol=1e-6)
    full = megatron_adamw.schedule(Settings(), steps=3)
    for count, wanted in {0: 0, 43: 6e-6, 430: 6e-5, 430_000: 6e-6, 500_000: 6e-6}.items():
        assert float(full(jnp.int32(count))) == pytest.approx(wanted, rel=1e-6)
    # A warm-up of two and a half updates is none of two.
    uneven = megatron_adamw.schedule(Settings(1.0, 0.0, 0.25, 10), steps=3)
    assert float(uneven(jnp.int32(2))) == pytest.approx(2 / 2.5)
    falling = 0.5 * (1 + np.cos(np.pi * 0.5 / 7.5))
    assert float(uneven(jnp.int32(3))) == pytest.approx(falling, rel=1e-6)


@pytest.mark.parametrize("clip_norm", [1.0, 1e9])
def test_three_updates_are_those_of_the_formulas(clip_norm: float) -> None:
    settings = Settings(
        b1=0.5,
        b2=0.75,
        epsilon=1e-3,
        weight_decay=0.25,
        clip_norm=clip_norm,
        learning_rate=0.5,
        warmup_fraction=0.5,
        decay_steps=4,
    )
    optimizer = megatron_adamw.make(settings, megatron_adamw.schedule(settings, 10))
    decaying, still = (plain_training.AdamW(0.5, 0.75, 1e-3, d, 1e9) for d in (0.25, 0))
    generator = np.random.default_rng(0)

    def drawn() -> dict[str, Any]:
        """A stacked bias has as many axes as a kernel."""
        shapes = {"kernel": (3, 4), "bias": (3, 4), "scale": (5,), "embedding": (2, 2)}
        return {
            name: jnp.asarray(generator.normal(size=shape), jnp.float32)
            for name, shape in shapes.items()
        }

    params, update = drawn(), jax.jit(optimizer.update)
    changed = optimizer.init(params)
    assert len(jax.tree.leaves(changed)) == 2 * len(params) + 2
    for number, rate in enumerate([0, 0.25, 0.5]):
        gradients = drawn()
        norm = float(np.sqrt(sum(np.square(g).sum() for g in gradients.values())))
        share = min(1.0, clip_norm / (norm + 1e-6))
        given = {name: np.asarray(g, np.float64) * share for name, g in gradients.items()}
        expected = decaying.update(params, given, rate)[0]
        expected |= {
            name: leaf
            for name, leaf in still.update(params, given, rate)[0].items()
            if name in ("bias", "scale")
        }
        # The steps of the run do not count, only those of the optimizer.
        state = {"step": jnp.int32(number + 7), **changed}
        params, changed, metrics = update(gradients, state, params)
        assert metrics.keys() == {"grad_norm", "learning_rate"}
        assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-6)
        assert float(metrics["learning_rate"]) == pytest.approx(rate, rel=1e-6)
        for name, leaf in params.items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, err_msg=f"{name} {number}")
    assert norm > 1


def test_a_gradient_of_nothing_can_be_clipped() -> None:
    made = megatron_adamw.make(Settings(clip_norm=1e-6, b1=0.0), lambda step: jnp.float32(0))
    params = {"scale": jnp.ones(1)}
    state = {"step": jnp.int32(0), **made.init(params)}
    update = jax.jit(made.update)
    for norm, clipped in ((0.0, 0.0), (1e-6, 0.5e-6), (3e-6, 0.75e-6)):
        _, changed, _ = update({"scale": jnp.full(1, norm)}, state, params)
        assert float(changed["opt_state"][0].mu["scale"][0]) == pytest.approx(clipped)
