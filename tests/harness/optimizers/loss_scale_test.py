"""The scale moves as Megatron-LM's does, and a skipped step moves nothing else."""

from typing import Any

import gpt_inputs as inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_optimizer

from harness.optimizers import loss_scale, megatron_adamw
from harness.optimizers.loss_scale import Scaling

TOY = toy_optimizer.make(toy_optimizer.Settings(), toy_optimizer.Held(0.5))
GOOD, BAD = 1.0, float("inf")


def run(scaling: Scaling, gradients: list[float], state: Any = None) -> tuple[Any, list[Any]]:
    """The state after steps with these scaled gradients, and each step's metrics."""
    optimizer = loss_scale.scaled(TOY, scaling)
    update = jax.jit(optimizer.update)
    params = {"kernel": jnp.zeros(3)}
    state = state or {"step": jnp.int32(0), "params": params, **optimizer.init(params)}
    told = []
    for number in gradients:
        given = {"kernel": jnp.ones(3).at[1].set(number)}
        params, changed, metrics = update(given, state, state["params"])
        state = {"step": state["step"] + 1, "params": params, **changed}
        told.append({name: value.item() for name, value in metrics.items()})
    return state, told


@pytest.mark.parametrize("name", ["float16", "float16, window 4"])
def test_the_scale_goes_where_megatrons_goes(name: str) -> None:
    settings = dict(one.split("=") for one in inputs.OWN_SETTINGS[name])
    scaling = Scaling(
        float(settings.get("optim.initial_loss_scale", 2**32)),
        least=1,
        window=int(settings.get("optim.loss_scale_window", 1000)),
        hysteresis=2,
    )
    steps = inputs.RUNS[name]["steps"]
    state, told = run(scaling, [BAD if step["skipped"] else GOOD for step in steps])
    assert [one["loss_scale"] for one in told] == [step["loss_scale"] for step in steps]
    assert [one["skipped"] for one in told] == [step["skipped"] for step in steps]
    assert float(state["loss_scale"]["scale"]) == steps[-1]["loss_scale_after"]


def test_hysteresis_comes_back_when_the_scale_doubles_and_not_before() -> None:
    scaling = Scaling(16, least=1, window=3, hysteresis=2)
    _, told = run(scaling, [BAD, GOOD, BAD, BAD, GOOD, GOOD, GOOD, BAD, BAD, GOOD])
    assert [one["loss_scale"] for one in told] == [16, 16, 16, 8, 4, 4, 4, 8, 8, 4]


def test_an_overflow_begins_the_count_of_good_steps_anew() -> None:
    _, told = run(Scaling(16, 1, window=2, hysteresis=9), [GOOD, BAD, GOOD, GOOD, GOOD])
    assert [one["loss_scale"] for one in told] == [16, 16, 16, 16, 32]


def test_a_fresh_scaler_is_of_the_types_that_steps_give_back() -> None:
    state, _ = run(Scaling(4, 1, 9, 1), [GOOD])
    fresh = loss_scale.scaled(TOY, Scaling(4, 1, 9, 1)).init(state["params"])
    before, after = ({n: v.dtype for n, v in one["loss_scale"].items()} for one in (fresh, state))
    assert before == after == {"scale": np.float32, "growth": np.int32, "hysteresis": np.int32}


def test_the_scale_falls_no_lower_than_the_least() -> None:
    _, told = run(Scaling(4, least=3, window=9, hysteresis=1), [BAD, BAD, GOOD])
    assert [one["loss_scale"] for one in told] == [4, 3, 3]


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_skipped_step_moves_nothing_but_the_scale(bad: float) -> None:
    optimizer = loss_scale.scaled(
        megatron_adamw.make(megatron_adamw.Settings(), toy_optimizer.Held(0.5)),
        Scaling(8, 1, 9, 1),
    )
    params = {"kernel": jnp.arange(3.0)}
    state = {"step": jnp.int32(0), **optimizer.init(params)}
    given = {"kernel": jnp.ones(3).at[1].set(bad)}
    kept, changed, metrics = jax.jit(optimizer.update)(given, state, params)
    jax.tree.map(np.testing.assert_array_equal, kept, params)
    jax.tree.map(np.testing.assert_array_equal, changed["opt_state"], state["opt_state"])
    assert metrics["skipped"].item()
    assert np.isnan(metrics["learning_rate"])
    assert np.isnan(metrics["grad_norm"])
    assert {name: value.item() for name, value in changed["loss_scale"].items()} == {
        "scale": 4,
        "growth": 0,
        "hysteresis": 0,
    }


def test_the_optimizer_is_given_gradients_without_the_scale() -> None:
    state, told = run(Scaling(4, 1, 9, 1), [1.0])
    assert told[0]["grad_norm"] == pytest.approx(3**0.5 / 4)
    assert told[0]["learning_rate"] == 0.5
    np.testing.assert_array_equal(state["params"]["kernel"], [-0.5] * 3)
