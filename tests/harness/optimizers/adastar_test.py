"""AdaStar alone, held against what AXLearn's computes of the same gradients."""

from typing import Any

import honeycrisp_inputs as inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import assert_refused

from harness import optimizers
from harness.cases import reading
from harness.optimizers import adastar
from harness.terminal.errors import UserError
from models.shared.trees import named_leaves, nested

CASE = reading.load("20_honeycrisp", "tiny", inputs.SETTINGS)
FIGURES = inputs.FIGURES
TOLERANCE = 4e-6


def optimizer(**changes: Any) -> Any:
    settings = adastar.Settings(**{**vars(CASE.optim), **changes})
    return adastar.make(settings, adastar.schedule(settings, 10))


def close(found: Any, told: dict[str, list[float]], floor: float = 0.0) -> None:
    """Every array's 2-norm and sum, the sum as exact as the norm lets it be."""
    for path, array in named_leaves(found).items():
        total, norm = inputs.sums(array)
        assert norm == pytest.approx(told[path][1], rel=TOLERANCE, abs=floor), path
        scale = max(told[path][1], floor) * array.size**0.5
        assert total == pytest.approx(told[path][0], abs=TOLERANCE * scale + floor), path


def test_twelve_steps_are_axlearns() -> None:
    made = optimizer()
    params = nested({path: jnp.asarray(value) for path, value in inputs.parameters().items()})
    state = {"step": jnp.int32(0), **made.init(params)}
    step = jax.jit(made.update)
    for number, row in enumerate(FIGURES["optimizer"]):
        before, given = (params, state["opt_state"]), inputs.gradients(number, *row["kind"])
        params, changed, metrics = step(nested(given), state, params)
        state = {"step": state["step"] + 1, **changed}
        moved = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, params, before[0])
        # What is added to a parameter is rounded with it: its own last bit is the floor.
        close(moved, row["updates"], floor=3e-6)
        assert int(metrics["nonvalid_count"]) == row["nonvalid_count"]
        count = before[1].averages[0].count
        assert int(metrics["schedule_step"]) == int(count)
        factor = float(adastar.schedule(CASE.optim, 10).factor(count))
        rates = {"schedule_scale": 1, "learning_rate": CASE.optim.learning_rate}
        rates["weight_decay_rate"] = CASE.optim.weight_decay
        for name, rate in rates.items():
            assert float(metrics[name]) == pytest.approx(rate * factor), name
        assert bool(metrics["dropped"]) == (number in (6, 7, 8, 9))
        if metrics["dropped"]:
            averages = state["opt_state"].averages
            jax.tree.map(np.testing.assert_array_equal, averages, before[1].averages)
            jax.tree.map(np.testing.assert_array_equal, params, before[0])
    final = FIGURES["optimizer_final"]
    close(params, final["params"])
    close(state["opt_state"].averages[2].ema, final["update_ema"])
    close(state["opt_state"].averages[0].nu, final["gradient_square_ema"])
    assert int(state["opt_state"].averages[0].count) == 8


def test_the_schedule_is_axlearns_at_its_corners() -> None:
    full = adastar.Settings()
    factor = adastar.schedule(full, 10).factor
    values = jax.jit(lambda step: factor(step))(jnp.array([0, 2500, 5000, 749_999, 10**6]))
    assert np.asarray(values) == pytest.approx([0, 0.5, 1, 0.005 + 4e-12, 0.005], rel=1e-6)
    assert float(adastar.schedule(full, 10)(jnp.int32(5000))) == pytest.approx(0.01)


def one_step(**changes: Any) -> np.ndarray:
    """How far the first step moves ones [layers, 4], of which the second has larger gradients."""
    made = optimizer(warmup_steps=0, weight_decay=0, **changes)
    params = {"layer": {"weight": jnp.ones((2, 4))}}
    gradients = {"layer": {"weight": jnp.array([[0.1] * 4, [0.1, 0, 0, 0]])}}
    state = {"step": jnp.int32(0), **made.init(params)}
    after, _, _ = jax.jit(made.update)(gradients, state, params)
    return np.asarray(1 - after["layer"]["weight"])


def test_layers_are_clipped_apart_where_the_case_says_so() -> None:
    # The first average of a square is debiased: each update is 1, or 0, before it is clipped.
    by_layer = one_step(layer_axes=(("layer/.*", 0),), update_clip=0.25)
    assert by_layer[0] == pytest.approx([0.25 * 0.05 * 0.01] * 4, rel=1e-3)
    assert by_layer[1, 0] == pytest.approx(0.5 * 0.05 * 0.01, rel=1e-3)  # of root mean square 1/2
    whole = one_step(layer_axes=(), update_clip=0.25)
    assert whole[0, 0] == whole[1, 0]


def test_the_first_pattern_that_matches_the_whole_path_scales() -> None:
    plain = one_step(update_scales=(("layer", 7.0),))
    scaled = one_step(update_scales=(("layer/w.*", 0.25), (".*", 9.0)))
    assert scaled == pytest.approx(plain / 4, rel=1e-3)


def test_decay_is_by_the_schedule_and_of_every_parameter() -> None:
    made = optimizer(warmup_steps=0, weight_decay=0.1, learning_rate=0.0)
    params = {"scale": jnp.full(3, 2.0)}
    state = {"step": jnp.int32(0), **made.init(params)}
    after, _, _ = jax.jit(made.update)({"scale": jnp.zeros(3)}, state, params)
    assert np.asarray(after["scale"]) == pytest.approx(np.full(3, 1.8))


def test_another_rate_or_decay_compiles_nothing_anew() -> None:
    def text(settings: adastar.Settings) -> str:
        def step(rates: Any, params: Any) -> Any:
            made = adastar.make(settings, rates)
            return made.update(params, {"step": 0, **made.init(params)}, params)[0]

        return jax.jit(step).lower(adastar.schedule(settings, 1), {"w": jnp.ones(3)}).as_text()

    changed = adastar.Settings(learning_rate=0.5, weight_decay=0.3, warmup_steps=1, alpha=0.5)
    assert text(adastar.Settings()) == text(changed)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optim.update_scales=[[a, b]]", "must be a list, of each [a text, a finite number]"),
        ("optim.update_scales=[[a]]", "must be a list, of each [a text, a finite number]"),
        ("optim.update_scales=[['(', 1]]", "'(' is not a regular expression"),
        ("optim.layer_axes=[[a, -1]]", "the axis of 'a' must be at least 0"),
        ("optim.max_step=3", "max_step=3: must be more than warmup_steps=3"),
        ("optim.drop_norm=0", "drop_norm=0.0: must be positive"),
        ("optim.clip_norm=1", "optim.clip_norm: no such key"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(override: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        reading.load("20_honeycrisp", "tiny", [*inputs.SETTINGS, override])
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("learning_rate", -1e-9, "must be at least 0"),
        ("weight_decay", -0.1, "must be at least 0"),
        ("warmup_steps", -1, "must be at least 0"),
        ("alpha", 1.1, "must lie in [0, 1]"),
        ("decay", 1.0, "must lie in [0, 1)"),
        ("update_decay", 1.0, "must lie in [0, 1)"),
        ("epsilon_square", 0.0, "must be positive"),
        ("update_clip", 0.0, "must be positive"),
    ],
)
def test_a_number_outside_its_range_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(adastar.Settings, field, value, allowed)


def test_a_gradient_of_nothing_is_clipped_to_nothing() -> None:
    made, params = optimizer(max_norm=1e-8), {"scale": jnp.ones(1)}
    state = {"step": jnp.int32(0), **made.init(params)}
    update = jax.jit(made.update)
    for norm, scale in ((0.0, 1.0), (1e-8, 0.5), (3e-8, 0.25)):
        _, _, metrics = update({"scale": jnp.full(1, norm)}, state, params)
        assert float(metrics["grad_norm"]) == pytest.approx(norm)
        assert float(metrics["gradient_scale"]) == pytest.approx(scale)


def test_lists_come_back_from_a_record_as_they_were() -> None:
    assert reading.from_flat(CASE.name, reading.flatten(CASE)) == CASE
    assert "adastar" in optimizers.names()
