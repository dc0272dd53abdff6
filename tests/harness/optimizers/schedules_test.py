import jax
import jax.numpy as jnp
import numpy as np
import plain_training
import pytest

from harness.optimizers.schedules import warmup_cosine

PEAK, FINAL = 3e-5, 3e-6


@pytest.mark.parametrize(("warmup", "total"), [(1, 10), (4, 10), (0, 5), (3, 3), (2, 3), (0, 1)])
def test_rates_rise_in_a_line_fall_in_a_cosine_and_are_held(warmup: int, total: int) -> None:
    schedule = warmup_cosine(PEAK, FINAL, warmup, total)
    rates = jax.jit(jax.vmap(schedule.__call__))(jnp.arange(total + 3))
    expected = [
        plain_training.learning_rate(step, total, PEAK, (warmup + 0.5) / total, 0.1)
        for step in range(total)
    ]
    np.testing.assert_allclose(rates[:total], expected, rtol=1e-5, atol=1e-12)
    assert {float(rate) for rate in rates[total:]} == {float(np.float32(FINAL))}
    assert rates.dtype == jnp.float32


def test_the_rates_of_ten_steps_are_the_references() -> None:
    schedule = warmup_cosine(PEAK, FINAL, 1, 10)
    rates = [float(schedule(jnp.int32(step))) for step in (0, 1, 5, 9)]
    assert rates == pytest.approx([0.0, 3e-5, 1.65e-5, 3e-6], rel=1e-6)


def test_another_schedule_has_numbers_of_the_same_types() -> None:
    types = [number.dtype for number in warmup_cosine(1, 0, 2, 9)]
    assert types == [np.float32] * 3 + [np.int32] * 2
