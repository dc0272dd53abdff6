from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_training
import pytest
from refusals import assert_refused

from harness.optimizers import adamw
from harness.optimizers.adamw import Settings
from harness.optimizers.schedules import warmup_cosine


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("learning_rate", -1e-9, "must be at least 0"),
        ("weight_decay", -0.1, "must be at least 0"),
        ("warmup_fraction", -0.1, "must lie in [0, 1]"),
        ("warmup_fraction", 1.1, "must lie in [0, 1]"),
        ("final_fraction", 1.1, "must lie in [0, 1]"),
        ("b1", 1.0, "must lie in [0, 1)"),
        ("b2", -0.1, "must lie in [0, 1)"),
        ("epsilon", 0.0, "must be positive"),
        ("clip_norm", 0.0, "must be positive"),
        ("schedule_steps", 0, "must be at least 1"),
    ],
)
def test_a_setting_without_a_meaning_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(Settings, field, value, allowed)


def test_the_schedule_is_that_of_the_settings_or_of_the_run() -> None:
    assert adamw.schedule(Settings(), 29) == warmup_cosine(3e-5, 0.1 * 3e-5, 2, 29)
    longer = Settings(schedule_steps=50, learning_rate=2.0, final_fraction=0.5)
    assert adamw.schedule(longer, 29) == warmup_cosine(2.0, 1.0, 5, 50)


@pytest.mark.parametrize("clip_norm", [1.0, 1e9])
def test_three_updates_are_those_of_the_formulas(clip_norm: float) -> None:
    settings = Settings(
        b1=0.5, b2=0.75, epsilon=1e-3, weight_decay=0.25, clip_norm=clip_norm, learning_rate=0.5
    )
    learning_rate = adamw.schedule(settings, 10)
    optimizer = adamw.make(settings, learning_rate)
    plain = plain_training.AdamW(0.5, 0.75, 1e-3, 0.25, clip_norm)
    generator = np.random.default_rng(0)

    def drawn() -> dict[str, jax.Array]:
        shapes = {"kernel": (3, 4), "scale": (5,)}
        return {
            name: jnp.asarray(generator.normal(size=shape), jnp.float32)
            for name, shape in shapes.items()
        }

    params, update = drawn(), jax.jit(optimizer.update)
    changed = optimizer.init(params)
    assert changed.keys() == {"opt_state"}
    assert len(jax.tree.leaves(changed)) == 2 * len(params) + 2
    for step in range(3):
        gradients = drawn()
        rate = plain_training.learning_rate(step, 10, 0.5, 0.1, 0.1)
        expected, norm = plain.update(params, gradients, rate)
        params, changed, metrics = update(gradients, {"step": jnp.int32(step), **changed}, params)
        assert metrics.keys() == {"grad_norm", "learning_rate"}
        assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-6)
        assert float(metrics["learning_rate"]) == pytest.approx(rate, rel=1e-6)
        assert changed.keys() == {"opt_state"}
        for name, leaf in params.items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, err_msg=f"{name} {step}")
    assert norm > 1


def test_the_update_tells_its_part_of_the_step() -> None:
    optimizer = adamw.make(Settings(), adamw.schedule(Settings(), 10))
    params = {"kernel": jnp.ones((2, 2))}
    state = {"step": jnp.int32(1), **optimizer.init(params)}
    lowered = jax.jit(optimizer.update).lower(params, state, params)
    assert "/optimizer/" in lowered.as_text(debug_info=True)
