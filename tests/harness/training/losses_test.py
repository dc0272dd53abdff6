from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_training
import pytest

from harness.cases import families
from harness.training import losses
from models.seam import Outcome

LOGITS = jnp.asarray(5 * np.random.default_rng(0).normal(size=(2, 7, 16)), jnp.float32)
TARGETS = jnp.asarray(np.random.default_rng(1).integers(0, 16, (2, 7)), jnp.int32)
BATCH = {"inputs": jnp.zeros((2, 7), jnp.int32), "targets": TARGETS}
KEY = jax.random.key(0)


def test_the_cross_entropy_and_its_gradient_are_those_of_the_formulas() -> None:
    (found, metrics), gradient = jax.value_and_grad(losses.cross_entropy, has_aux=True)(
        LOGITS, BATCH
    )
    assert float(found) == pytest.approx(float(plain_training.loss(LOGITS, TARGETS)), rel=1e-6)
    np.testing.assert_allclose(
        gradient, jax.grad(plain_training.loss)(LOGITS, TARGETS), rtol=1e-5, atol=1e-8
    )
    assert metrics.keys() == {"total_weights"}
    assert float(metrics["total_weights"]) == 14
    assert metrics["total_weights"].dtype == found.dtype == jnp.float32


def test_no_logits_are_gathered_and_the_loss_tells_its_part() -> None:
    lowered = jax.jit(losses.cross_entropy).lower(LOGITS, BATCH)
    assert "gather" not in lowered.as_text()
    assert "/loss/" in lowered.as_text(debug_info=True)


def apply(config: Any, params: Any, tokens: jax.Array, key: jax.Array) -> jax.Array:
    assert (config, params, key) == ("config", "params", KEY)
    return jnp.where(tokens[..., None] == BATCH["inputs"][..., None], LOGITS, 0.0)


def evaluated(family: Any, implementation: Any) -> Outcome:
    variables: Any = ("params", None)
    return losses.evaluate(family, implementation, "config", variables, BATCH, KEY)


def test_a_family_without_a_loss_has_the_cross_entropy_of_its_logits() -> None:
    outcome = evaluated(families.load(None), SimpleNamespace(apply=apply))
    expected, metrics = losses.cross_entropy(LOGITS, BATCH)
    assert (outcome.loss, outcome.metrics, outcome.model_state) == (expected, metrics, None)


def test_a_familys_own_loss_is_given_logits_and_batch() -> None:
    def loss(logits: jax.Array, batch: Any) -> Any:
        assert batch is BATCH
        return jnp.sum(logits), {"total_weights": jnp.float32(3), "other": jnp.float32(4)}

    family = replace(families.load(None), loss=loss)
    outcome = evaluated(family, SimpleNamespace(apply=apply))
    assert float(outcome.loss) == pytest.approx(float(jnp.sum(LOGITS)))
    assert float(outcome.metrics["other"]) == 4


def test_an_implementations_own_loss_is_the_whole_forward_pass() -> None:
    wanted = Outcome(jnp.float32(1), {}, {"mean": jnp.float32(2)})
    given: list[Any] = []

    def loss(*arguments: Any) -> Outcome:
        given.extend(arguments)
        return wanted

    variables: Any = ("params", "model state")
    found = losses.evaluate(
        families.load(None), SimpleNamespace(loss=loss), "config", variables, BATCH, KEY
    )
    assert found is wanted
    assert given == ["config", "params", "model state", BATCH, KEY]
