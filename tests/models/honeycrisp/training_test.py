"""The Honeycrisp is trained as AXLearn's trainer does, over any mesh, and goes on over another."""

from pathlib import Path
from typing import Any

import commands
import honeycrisp_inputs as inputs
import jax
import numpy as np
import pytest

from harness.cases import reading
from harness.saving import digest
from harness.saving.checkpointer import Checkpointer
from harness.training import stepping, train_step
from harness.training.parallel import mesh
from models.seam import USUAL_NAMES
from models.shared.trees import named_leaves, nested

FLOAT32 = (*inputs.SETTINGS, *inputs.LIMITS, "model.dtype=float32")
STEPS = inputs.FIGURES["steps"]
SHAPES = ((1, 8), (2, 4), (8, 1))  # data, fsdp


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens.npz"
    arrays: dict[str, Any] = inputs.batches()
    np.savez(path, **arrays)
    return path


def trainer_of(impl: str, shape: tuple[int, int], *settings: str, recipe: str = "reference") -> Any:
    data, fsdp = shape
    batch = ["data.global_batch=8"] if data * fsdp == 8 else []
    sizes = [f"parallel.data={data}", f"parallel.fsdp={fsdp}"]
    case = reading.load("20_honeycrisp", "tiny", [*settings, *batch, *sizes], recipe)
    return train_step.make_trainer(case, impl, mesh.make(case, jax.devices()[: data * fsdp]))


def check_step(entry: Any, told: Any) -> None:
    assert entry["loss"] == pytest.approx(told["loss"], abs=2e-6)
    assert entry["grad_norm"] == pytest.approx(told["gradient_norm"], rel=1e-6)
    for name in ("gradient_scale", "learning_rate", "weight_decay_rate"):
        assert entry[name] == pytest.approx(told[name], rel=1e-6)
    assert entry["nonvalid_count"] == told["nonvalid_count"]
    assert entry["schedule_step"] == told["schedule_step"]


def test_ten_steps_by_the_command_are_axlearns(tokens: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.npz"
    arrays: dict[str, Any] = inputs.parameters()
    np.savez(given, **arrays)
    alone = ["checkpoint.enabled=false", "eval.every=null"]
    settings = [*FLOAT32, f"data.tokens={tokens}", *alone]
    done = commands.run(
        *("--case", "20_honeycrisp", "--size", "tiny", "--impl", "linen", "--devices", "1"),
        *("--restore", given, "--results-dir", tmp_path, "--run-id", "a", "--steps", "10"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr
    record = commands.record_of(tmp_path / "a")
    assert record["environment"]["mesh"] == {"fsdp": 1}
    assert [entry["dropped"] for entry in record["steps"]] == [n == 4 for n in range(10)]
    for entry, told in zip(record["steps"], STEPS, strict=True):
        check_step(entry, told)
        assert entry["perplexity"] == pytest.approx(np.exp(entry["loss"]), rel=1e-6)
        assert entry["live_targets"] == entry["total_weights"] == 128
    assert "z_loss: 2" in done.stdout


def test_updates_over_a_mesh_are_axlearns_and_go_on_over_another(
    tokens: Path, tmp_path: Path
) -> None:
    trainer = trainer_of("nnx", (2, 2), *FLOAT32, f"data.tokens={tokens}")
    step = train_step.compile_step(train_step.trace_step(trainer).lower(), trainer)
    given = train_step.make_inputs(trainer_case(tokens), trainer.grid)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trainer.state)
    state = jax.tree.map(
        lambda array, leaf: jax.device_put(array, leaf.sharding),
        zeros | {"params": nested(inputs.parameters())},
        trainer.state,
    )
    for told in STEPS:
        before = jax.device_get(state["params"])
        state, metrics = step(state, given)
        check_step({name: value.item() for name, value in jax.device_get(metrics).items()}, told)
        moved = jax.tree.map(
            lambda a, b: np.asarray(a, np.float64) - b, jax.device_get(state["params"]), before
        )
        for path, array in named_leaves(moved).items():
            norm = told["update_norms"][path]
            assert inputs.sums(array)[1] == pytest.approx(norm, rel=1e-5, abs=1e-7), path
    about = {"case": {"name": "20_honeycrisp", "hash": "a" * 64, "config": {}}}
    checkpointer = Checkpointer(tmp_path / "c", reading.load("20_honeycrisp").checkpoint, about)
    checkpointer.open()
    checkpointer.save(9, state)
    checkpointer.finish()
    other = trainer_of("linen", (1, 8), *FLOAT32)
    restored = checkpointer.restore(tmp_path / "c", other.state)
    assert digest.array_digests(restored.state) == digest.array_digests(state)
    sharding = restored.state["params"]["decoder"]["emb"]["token_emb"]["weight"].sharding
    assert sharding.mesh.size == 8
    assert restored.step == 9


def trainer_case(tokens: Path) -> Any:
    return reading.load("20_honeycrisp", "tiny", [*FLOAT32, f"data.tokens={tokens}"])


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_the_twins_are_one_program_over_every_mesh(recipe: str) -> None:
    shapes = SHAPES if recipe == "reference" else SHAPES[1:2]
    for shape in shapes:
        one, other = (
            train_step.trace_step(trainer_of(impl, shape, *inputs.SETTINGS, recipe=recipe))
            .lower()
            .as_text()
            for impl in USUAL_NAMES
        )
        assert one == other


def first_metrics(recipe: str, *settings: str) -> dict[str, float]:
    """What the first step of one device tells."""
    alone = ["parallel.data=1", "parallel.fsdp=1", "model.layers=1"]
    case = reading.load("20_honeycrisp", "tiny", [*FLOAT32, *alone, *settings], recipe)
    trainer = train_step.make_trainer(case, "nnx", mesh.make(case, jax.devices()[:1]))
    given = train_step.make_inputs(case, trainer.grid)
    with trainer.grid.in_force():
        step = jax.jit(lambda given: trainer.step(trainer.init(given.seed), given)[1])
        return stepping.fetched(step(given))


def test_microbatches_of_unequal_targets_tell_what_their_batch_does(tmp_path: Path) -> None:
    """Also the perplexity, which is no mean of theirs."""
    batch: dict[str, Any] = inputs.batch()
    for row, targets in enumerate(batch["targets"]):
        targets[8 * row + 4 :] = 0
    np.savez(tmp_path / "tokens.npz", **batch)
    tokens = f"data.tokens={tmp_path / 'tokens.npz'}"
    whole = first_metrics("reference", tokens)
    assert whole["live_targets"] == 4 + 12 + 20 + 28
    assert whole["perplexity"] == pytest.approx(np.exp(whole["loss"]), rel=1e-6)
    for recipe in ("reference", "fast"):
        parts = first_metrics(recipe, tokens, "data.microbatches=4")
        assert parts == pytest.approx(whole, rel=1e-5)


def test_what_is_run_on_chooses_the_mesh() -> None:
    case = reading.load("20_honeycrisp")
    sizes = {
        "tpu-v6e-256": (-1, 8),
        "tpu-v4-256": (1, -1),
        "tpu-v5litepod-256": (-1, 256),
        "tpu-v5litepod-256-4": (-1, 8),
        "tpu-v5p-1024": (-1, 1),
        "tpu-v5p-512": (-1, 8),
        "cpu-4": (1, -1),
    }
    for instance, wanted in sizes.items():
        found = mesh.sizes_on(case, instance)
        assert (found.data, found.fsdp) == wanted, instance
    for override, wanted in (
        (["fsdp=4"], (-1, 4)),
        (["data=4"], (4, -1)),
        (["data=2", "fsdp=4"], (2, 4)),
        (["tensor=2"], (-1, 8)),
    ):
        settings = [f"parallel.{axis}" for axis in override]
        found = mesh.sizes_on(reading.load("20_honeycrisp", overrides=settings), "tpu-v6e-256")
        assert (found.data, found.fsdp) == wanted, override
    given = reading.load("20_honeycrisp", overrides=["parallel.fsdp=4"])
    assert dict(mesh.make(given, jax.devices()).mesh.shape) == {"data": 2, "fsdp": 4}
    assert mesh.instance_type(jax.devices()) == "cpu-8"
    assert dict(mesh.make(case, jax.devices()).mesh.shape) == {"fsdp": 8}
