import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.optimizers.optimizer import clipped


@pytest.mark.parametrize(("limit", "scale"), [(10.0, 1.0), (1.0, 0.2)])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(limit: float, scale: float) -> None:
    optimizer = clipped(optax.sgd(1.0), limit, lambda step: 0.5 * step.astype(jnp.float32))
    params = {"a": jnp.zeros(1), "b": jnp.zeros((1, 1))}
    gradients = {"a": jnp.asarray([3.0]), "b": jnp.asarray([[4.0]])}
    state = {"step": jnp.int32(4), **optimizer.init(params)}
    updated, changed, metrics = jax.jit(optimizer.update)(gradients, state, params)
    np.testing.assert_allclose(updated["a"], [-3.0 * scale], rtol=1e-6)
    np.testing.assert_allclose(updated["b"], [[-4.0 * scale]], rtol=1e-6)
    assert (float(metrics["grad_norm"]), float(metrics["learning_rate"])) == (5.0, 2.0)
    assert changed.keys() == {"opt_state"}
