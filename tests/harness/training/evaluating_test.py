"""Evaluations: when, of what, and that both twins make the same ones without dropout."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_pairs

from harness.cases import families, reading
from harness.terminal.errors import UserError
from harness.training import data, evaluating, losses, train_step
from harness.training.evaluating import Evaluation
from harness.training.parallel import mesh
from models.seam import USUAL_NAMES

SIZES = ("model.layers=1", "data.sequence_length=16", "data.global_batch=2")


def evaluated(case: Any, impl: str) -> tuple[dict[str, float], Any]:
    """An evaluation, and the state that it is of: made up, so that none need be compiled."""
    trainer = train_step.make_trainer(case, impl, mesh.make(case, jax.devices()[:1]))
    rng = np.random.default_rng(0)

    def made(leaf: Any) -> Any:
        array = rng.normal(size=leaf.shape) if jnp.issubdtype(leaf.dtype, jnp.floating) else 0
        return jax.device_put(np.full(leaf.shape, array, leaf.dtype), leaf.sharding)

    state = jax.tree.map(made, trainer.state)
    batches = data.evaluation_arrays(case, trainer.grid)
    return evaluating.compiled(case, impl, trainer, state, batches)(state)[0], state


@pytest.mark.parametrize(
    ("every", "steps"), [("null", []), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (25, [4])]
)
def test_evaluations_are_due_every_so_many_steps_and_after_the_last(
    every: int | str, steps: list[int]
) -> None:
    case = reading.load("01_baseline", "tiny", ["run.steps=5", f"eval.every={every}"])
    assert [step for step in range(5) if evaluating.due(case, step)] == steps


def test_a_published_policy_is_kept() -> None:
    case = reading.load("20_honeycrisp", overrides=["run.steps=60000"])
    due = [step for step in range(60000) if evaluating.due(case, step)]
    assert due == [24_999, 49_999, 59_999]  # after so many steps, as AXLearn counts, and the last


def test_both_twins_evaluate_alike_bit_for_bit_without_dropout() -> None:
    settings = [*SIZES, "eval.every=2", "eval.batches=2", "model.dropout_rate=0.5"]
    case = reading.load("03_dropout", "tiny", settings)
    (linen, state), (nnx, _) = (evaluated(case, impl) for impl in USUAL_NAMES)
    assert linen == nnx
    assert linen["total_weights"] == 2 * 2 * 16
    family, model = families.of(case), reading.load("01_baseline", "tiny", SIZES).model

    @jax.jit
    def loss(batch: Any) -> Any:
        variables, key = (state["params"], None), jax.random.key(1)
        return losses.evaluate(family, family.get("linen"), model, variables, batch, key).loss

    grid = mesh.make(case, jax.devices()[:1])
    means = [float(loss(batch)) for (batch,) in data.evaluation_arrays(case, grid)]
    assert linen["loss"] == pytest.approx(sum(means) / 2, rel=1e-5)


def test_no_family_drops_anything_where_it_is_evaluated() -> None:
    for name in families.names():
        family = families.load(None, name)
        config = family.evaluated(family.config())
        rates = {field: rate for field, rate in vars(config).items() if "dropout" in field}
        assert not any(rates.values()), name
        assert config.remat == "none"


def test_means_are_over_all_targets_of_all_batches() -> None:
    def forward(variables: Any, batch: Any, seed: Any) -> Any:
        return {
            "loss": jnp.float32(batch),
            "accuracy": jnp.float32(batch / 4),
            "total_weights": jnp.float32(3 * batch),
            "live": jnp.float32(batch),
        }

    made: Any = forward
    family: Any = SimpleNamespace(
        counts=("live", "total_weights"), derived=lambda told: {"square": told["loss"] ** 2}
    )
    batches: Any = [[1, 3], [4]]  # losses of 2.5, by its parts, and of 4
    metrics, seconds = Evaluation(made, batches, 0, family)({"params": {}})
    means = {"loss": 3.25, "accuracy": 0.8125, "square": (2.5**2 + 4**2) / 2}
    assert metrics == {**means, "total_weights": 24.0, "live": 8.0}
    assert seconds > 0
    batches = [[0]]
    assert Evaluation(made, batches, 0, family)({"params": {}})[0]["loss"] == 0


def test_data_of_its_own_or_of_a_file_of_any_size(tmp_path: Path) -> None:
    def arrays(*settings: str) -> Any:
        overrides = ["data.sequence_length=3", "data.global_batch=8", "eval.every=1", *settings]
        case = reading.load("01_baseline", "tiny", overrides)
        grid = mesh.make(case, jax.devices())
        return data.evaluation_arrays(case, grid), data.make_batch(case, grid)

    ((first,), (second,)), trained = arrays("eval.batches=2")
    assert first["inputs"].shape == (8, 3)
    for a, b in ((first, second), (first, trained)):
        assert (a["inputs"] != np.asarray(b["inputs"])).mean() > 0.9
    tokens = np.arange(3 * 16 * 4).reshape(3, 16, 4)
    np.save(tmp_path / "t.npy", tokens)
    name = f"eval.tokens={tmp_path}/t.npy"
    found, _ = arrays(name)
    assert [one["inputs"].shape for (one,) in found] == [(16, 3)] * 3
    np.testing.assert_array_equal(found[2][0]["targets"], tokens[2, :, 1:])
    assert len(arrays(name, "eval.batches=1")[0]) == 1
    shared = arrays(name, "data.global_batch=16", "data.microbatches=2")[0]
    assert [[part["inputs"].shape for part in one] for one in shared] == [[(8, 3)] * 2] * 3
    np.testing.assert_array_equal(shared[2][1]["targets"], tokens[2, 8:, 1:])
    with pytest.raises(UserError, match=r"^eval.batches=4: eval.tokens=.* holds 3$"):
        arrays(name, "eval.batches=4")
    np.save(tmp_path / "t.npy", tokens[:, :12])
    with pytest.raises(UserError, match=r"batches of 12 sequences, which 8 devices cannot share$"):
        arrays(name)
    np.save(tmp_path / "t.npy", tokens[0])
    assert len(arrays(name)[0]) == 1


def case_of(pair: Any) -> Any:
    twins = small_pairs.module("evaluated", pair)
    families.load.cache_clear()
    settings = ["data.global_batch=4", "eval.every=1"]
    return reading.load(reading.PAIR_CASE, "tiny", settings, twins=twins)


def test_a_pair_is_evaluated_as_it_says() -> None:
    made = dict.fromkeys(("linen", "nnx"), lambda model, batch: jnp.float32(len(batch["x"])))
    case = case_of(small_pairs.pair(evaluation=made))
    assert evaluated(case, "nnx")[0] == {"loss": 4.0, "total_weights": 4.0}


@pytest.mark.pairs
def test_a_pair_that_draws_must_say_how_it_is_evaluated() -> None:
    with pytest.raises(UserError, match=r"linen draws random numbers and nnx .*: must say by"):
        evaluated(case_of(small_pairs.pair()), "linen")
