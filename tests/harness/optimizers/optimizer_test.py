import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness import optimizers
from harness.optimizers.optimizer import Optimizer, clipped


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


@pytest.mark.parametrize("name", optimizers.names())
def test_all_that_an_update_computes_is_known_as_the_optimizers(name: str) -> None:
    module = optimizers.load(name)
    made = module.make(module.Settings(), lambda step: jnp.float32(0.1))
    optimizer = (
        made if isinstance(made, Optimizer) else clipped(made, 1.0, lambda step: jnp.float32(0.1))
    )
    params = {"layers": {"kernel": jnp.ones((2, 3))}}
    state = {"step": jnp.int32(0), **optimizer.init(params)}
    traced = jax.make_jaxpr(optimizer.update)(params, state, params)
    scopes = {str(one.source_info.name_stack).partition("/")[0] for one in traced.eqns}
    assert scopes == {"optimizer"}


@pytest.mark.parametrize("name", ["no.such", "json"])
def test_what_is_no_optimizer_is_refused(name: str) -> None:
    told = f"^name='{name}': must be one of adamw, .*, or a module with Settings and make$"
    with pytest.raises(ValueError, match=told):
        optimizers.load(name)
