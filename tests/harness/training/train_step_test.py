"""Ten steps of training: both implementations, one and several devices, bit for bit."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from harness import hlo
from harness.cases import families, reading
from harness.optimizers import adamw
from harness.training import beginning, data, train_step
from harness.training.parallel import mesh
from models.seam import USUAL_NAMES

STEPS = 10


@cache
def trained(
    name: str,
    impl: str,
    device_count: int,
    overrides: tuple[str, ...] = (),
    recipe: str = "reference",
) -> tuple[list[dict[str, float]], Any, str]:
    """Each step's metrics, each step's parameters, and the optimised program's fingerprint."""
    case = reading.load(name, "tiny", overrides, recipe)
    grid = mesh.make(case, jax.devices()[:device_count])
    trainer = train_step.make_trainer(case, impl, grid)
    compiled = programs.step_of(trainer)
    inputs = train_step.make_inputs(case, grid)
    fresh = programs.fresh_state(trainer, inputs.seed)
    state = train_step.lay_out(trainer, compiled, fresh)
    metrics, states = [], [jax.device_get(state)]
    for _ in range(STEPS):
        state, values = compiled(state, inputs)
        metrics.append({key: float(value) for key, value in values.items()})
        states.append(jax.device_get(state))
    return metrics, states, hlo.fingerprint(hlo.parse(hlo.text(compiled)))


@pytest.mark.parametrize(
    ("recipe", "device_count"),
    [("reference", 1), ("reference", 4), ("reference", 8), ("fast", 1), ("fast", 8)],
)
@pytest.mark.parametrize("name", ["01_baseline", "03_dropout", "04_int8", "05_fp8"])
def test_linen_and_nnx_are_bit_equal_at_every_step(
    name: str, device_count: int, recipe: str
) -> None:
    linen, nnx = (trained(name, impl, device_count, recipe=recipe) for impl in USUAL_NAMES)
    assert linen[0] == nnx[0]
    jax.tree.map(np.testing.assert_array_equal, linen[1], nnx[1])
    assert linen[2] == nnx[2], "the optimised programs differ"


@pytest.mark.parametrize("name", ["01_baseline", "04_int8", "05_fp8"])
def test_the_first_step_learns_nothing(name: str) -> None:
    """Its learning rate is 0: the same parameters see the same batch twice."""
    metrics, states, _ = trained(name, "linen", 1)
    assert metrics[0]["learning_rate"] == 0
    jax.tree.map(np.testing.assert_array_equal, states[0]["params"], states[1]["params"])
    if name != "04_int8":  # whose gradients are rounded anew each step; its loss is not
        assert metrics[0]["grad_norm"] == metrics[1]["grad_norm"]
    assert metrics[0]["loss"] == metrics[1]["loss"] > metrics[9]["loss"]


def test_dropout_is_fresh_every_step() -> None:
    metrics, _, _ = trained("03_dropout", "linen", 1)
    assert metrics[0]["loss"] != metrics[1]["loss"]


@pytest.mark.parametrize("name", ["01_baseline", "03_dropout"])
def test_one_and_eight_devices_agree(name: str) -> None:
    overrides = ("data.global_batch=8", "model.dtype=float32")
    one, eight = (trained(name, "nnx", count, overrides)[0] for count in (1, 8))
    for key in ("loss", "grad_norm", "total_weights"):
        np.testing.assert_allclose(
            [entry[key] for entry in one], [entry[key] for entry in eight], rtol=2e-5
        )


@pytest.mark.parametrize("name", ["01_baseline", "03_dropout", "04_int8", "05_fp8"])
def test_both_recipes_are_the_same_mathematics(name: str) -> None:
    reference, fast = (
        trained(name, "nnx", 8, recipe=recipe)[0] for recipe in ("reference", "fast")
    )
    for key, rtol in {"loss": 1e-3, "grad_norm": 1e-2}.items():
        np.testing.assert_allclose(
            [entry[key] for entry in reference], [entry[key] for entry in fast], rtol=rtol
        )


@pytest.mark.parametrize("name", ["04_int8", "05_fp8"])
def test_quantised_training_stays_near_bfloat16(name: str) -> None:
    exact, quantised = (trained(case, "nnx", 1)[0] for case in ("01_baseline", name))
    for a, b in zip(exact, quantised, strict=True):
        assert abs(a["loss"] - b["loss"]) < 0.02


@pytest.mark.parametrize("name", ["03_dropout", "04_int8", "05_fp8"])
def test_no_array_more_than_the_baseline(name: str) -> None:
    baseline = trained("01_baseline", "nnx", 1)[1][0]
    state = trained(name, "nnx", 1)[1][0]
    assert len({jax.tree.structure(tree) for tree in (state, baseline)}) == 1
    assert len(jax.tree.leaves(state)) == 39


def test_total_weights_and_loss_are_those_of_the_batch() -> None:
    metrics, states, _ = trained("01_baseline", "linen", 8)
    case = reading.load("01_baseline", "tiny")
    batch = data.make_batch(case, mesh.make(case, jax.devices()))
    assert metrics[0]["total_weights"] == 8 * case.data.sequence_length
    model = beginning.resolved(case, "cpu")
    inputs = jax.device_put(batch["inputs"], jax.devices()[0])
    linen = families.of(case).get("linen")
    logits = linen.apply(model, states[0]["params"], inputs, jax.random.key(0))
    probabilities = np.exp(np.asarray(logits, np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities, np.asarray(batch["targets"])[..., None], -1)
    assert metrics[0]["loss"] == pytest.approx(-np.log(chosen).mean(), abs=2e-3)


def test_gradients_are_clipped_to_the_norm() -> None:
    """With one AdamW step's first moment, (1 - b1) times the clipped gradient."""
    metrics, states, _ = trained("01_baseline", "linen", 1)
    assert metrics[0]["grad_norm"] > 1
    first_moment = jax.tree.leaves(states[1]["opt_state"][0].mu)
    norm = np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in first_moment))
    assert norm == pytest.approx(0.1, rel=1e-4)


def test_schedule() -> None:
    settings = adamw.Settings()
    rates = [float(adamw.schedule(settings, 10)(jnp.int32(step))) for step in range(12)]
    expected = [0.0] + [3e-6 + 2.7e-5 * 0.5 * (1 + np.cos(np.pi * i / 8)) for i in range(9)]
    np.testing.assert_allclose(rates[:10], expected, rtol=1e-6)
    assert rates[1] == pytest.approx(3e-5)
    assert rates[9] == pytest.approx(3e-6)
    assert rates[10:] == [rates[9]] * 2
    assert float(adamw.schedule(settings, 1)(jnp.int32(0))) == pytest.approx(
        3e-6
    )  # a cosine of one step


def test_shards_are_those_of_the_parameter_table() -> None:
    case = reading.load("01_baseline", "tiny")
    grid = mesh.make(case, jax.devices())
    trainer = train_step.make_trainer(case, "nnx", grid, "native")
    state = programs.fresh_state(trainer, jnp.uint32(0))
    layers = state["params"]["decoder"]["layers"]
    shard = {
        "embedding": (state["params"]["token_embedder"]["embedding"], (256, 8)),
        "query": (layers["self_attention"]["query"]["kernel"], (8, 2, 4, 16)),
        "out": (layers["self_attention"]["out"]["kernel"], (4, 2, 16, 8)),
        "wo": (layers["mlp"]["wo"]["kernel"], (128, 2, 8)),
        "norm": (layers["pre_self_attention_layer_norm"]["scale"], (64, 2)),
        "logits": (state["params"]["decoder"]["logits_dense"]["kernel"], (8, 256)),
    }
    for array, shape in shard.values():
        assert array.addressable_shards[0].data.shape == shape
    moments = state["opt_state"][0]
    assert jax.tree.map(lambda x: x.sharding, moments.mu) == jax.tree.map(
        lambda x: x.sharding, state["params"]
    )
    batch = data.make_batch(case, grid)
    assert batch["inputs"].addressable_shards[0].data.shape == (1, 64)
    assert (np.asarray(batch["inputs"])[:, 1:] == np.asarray(batch["targets"])[:, :-1]).all()
