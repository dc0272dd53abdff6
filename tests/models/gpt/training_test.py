"""The GPT is trained as Megatron-LM's core does: in float32, and in float16 with its scale."""

from pathlib import Path
from typing import Any

import commands
import gpt_inputs as inputs
import jax
import numpy as np
import programs
import pytest

from harness.cases import reading
from harness.saving import digest
from harness.saving.checkpointer import Checkpointer
from harness.terminal.errors import UserError
from harness.training import beginning, stepping, train_step
from harness.training.parallel import mesh
from models.shared.trees import nested

WINDOW = "float16, window 4"
ALONE = ("parallel.data=1", "parallel.tensor=1", "parallel.stage=1")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with parameters, layer by layer, and tokens."""
    folder = tmp_path_factory.mktemp("given")
    arrays: dict[str, Any] = inputs.parameters()
    np.savez(folder / "params.npz", **arrays)
    tokens = inputs.tokens()
    np.savez(folder / "tokens.npz", inputs=tokens[:, :-1], targets=tokens[:, 1:])
    return folder


def settings_of(given: Path, name: str, *more: str) -> list[str]:
    own = inputs.OWN_SETTINGS[name]
    return [*inputs.SETTINGS, *own, f"data.tokens={given / 'tokens.npz'}", *more]


class Alone:
    """Training on one device, without a pipeline: its microbatches are accumulated."""

    def __init__(self, *settings: str) -> None:
        self.case = reading.load("30_pipeline", "tiny", [*settings, *ALONE])
        grid = mesh.make(self.case, jax.devices()[:1])
        self.trainer = train_step.make_trainer(self.case, "nnx", grid)
        self.inputs = train_step.make_inputs(self.case, grid)
        self.step = programs.step_of(self.trainer)

    def fresh(self) -> Any:
        """The state before the first step."""
        return programs.fresh_state(self.trainer, self.inputs.seed)

    def begun(self) -> Any:
        """Likewise, with the given parameters."""
        params = jax.tree.map(jax.numpy.asarray, nested(inputs.stacked()))
        return self.fresh() | {"params": params}

    def run(self, state: Any, steps: int) -> tuple[Any, list[dict[str, float]]]:
        """The state after so many steps, and what each of them told."""
        told = []
        for _ in range(steps):
            state, metrics = self.step(state, self.inputs)
            told.append(stepping.fetched(metrics))
        return state, told


@pytest.fixture(scope="module")
def alone(given: Path) -> Alone:
    return Alone(*settings_of(given, WINDOW))


def check_float16(entry: Any, told: Any, tells: Any) -> None:
    assert (entry["skipped"], entry["loss_scale"]) == (told["skipped"], told["loss_scale"])
    assert entry["loss"] == pytest.approx(told["loss"], rel=3e-3)
    if told["skipped"]:
        assert not tells(entry["grad_norm"])
        assert not tells(entry["learning_rate"])
    else:
        assert entry["grad_norm"] == pytest.approx(told["grad_norm"], rel=0.1)
        assert entry["learning_rate"] == pytest.approx(told["learning_rate"], rel=1e-6)


def test_accumulated_steps_in_float16_are_skipped_where_megatrons_are(alone: Alone) -> None:
    steps = inputs.RUNS[WINDOW]["steps"]
    state, found = alone.run(alone.begun(), len(steps))
    for entry, told in zip(found, steps, strict=True):
        check_float16(entry, told, np.isfinite)
    good = sum(not step["skipped"] for step in steps)
    assert int(state["step"]) == len(steps)
    assert int(state["opt_state"][0].count) == good


def test_between_two_overflows_it_goes_on_as_if_it_had_not_stopped(
    alone: Alone, tmp_path: Path
) -> None:
    """Steps 8 to 10 are skipped; after step 7 the scale had just doubled."""
    state, _ = alone.run(alone.begun(), 9)
    assert state["loss_scale"]["hysteresis"] == 1
    about = {"case": {"name": "30_pipeline", "hash": "a" * 64, "config": {"model.family": "gpt"}}}
    checkpointer = Checkpointer(tmp_path / "c", alone.case.checkpoint, about)
    checkpointer.open()
    checkpointer.save(8, state)
    checkpointer.finish()
    restored = checkpointer.restore(tmp_path / "c", alone.trainer.state)
    assert restored.step == 8
    assert len(digest.array_digests(restored.state)) == 54
    after, told = alone.run(state, 3)
    again, same = alone.run(restored.state, 3)
    assert [entry["skipped"] for entry in told] == [True, True, False]
    np.testing.assert_equal(same, told)
    assert digest.array_digests(again) == digest.array_digests(after)


def overflows(case: Any, scale: float) -> bool:
    """Whether the logit of a target no likelier than any other word has an infinite gradient."""
    targets = (case.data.global_batch or case.data.per_device_batch) * case.data.sequence_length
    with np.errstate(over="ignore"):
        return bool(np.isinf(np.float16(scale * (1 - 1 / case.model.vocab) / targets)))


def test_the_first_three_steps_of_the_full_size_are_skipped() -> None:
    """Shown where fewer targets share a smaller scale, so that their gradients are as large."""
    full = reading.load("30_pipeline")
    few = Alone(
        *("model.layers=1", "model.vocab=8192", "data.sequence_length=32", "data.global_batch=16"),
        f"optim.initial_loss_scale={2.0**26}",
    )
    scales = [2.0**26, 2.0**26, 2.0**25, 2.0**24]  # the first overflow is forgiven
    assert full.optim.initial_loss_scale == 64 * scales[0]
    for scale, infinite in zip(scales, (True, True, True, False), strict=True):
        assert overflows(full, 64 * scale) == overflows(few.case, scale) == infinite
    state, told = few.run(few.fresh(), 3)
    assert [(entry["skipped"], entry["loss_scale"]) for entry in told] == [
        (True, scale) for scale in scales[:3]
    ]
    scaler = state["loss_scale"]
    assert scaler["scale"] == scales[3]
    _, (good,) = few.run(state | {"loss_scale": scaler | {"scale": scaler["scale"] / 2**10}}, 1)
    assert not good["skipped"]


@pytest.mark.parametrize(("name", "impl"), [("float32", "linen"), (WINDOW, "nnx")])
def test_steps_of_a_pipeline_are_megatrons(
    name: str, impl: str, given: Path, tmp_path: Path
) -> None:
    """By the command, over as many devices as its stages and halves of matmuls make."""
    settings = settings_of(given, name, "checkpoint.enabled=false")
    steps = inputs.RUNS[name]["steps"]
    done = commands.run(
        *("--case", "30_pipeline", "--size", "tiny", "--impl", impl, "--steps", str(len(steps))),
        *("--restore", given / "params.npz", "--results-dir", tmp_path, "--run-id", "a"),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr
    record = commands.record_of(tmp_path / "a")
    assert record["environment"]["mesh"] == {"fsdp": 1, "stage": 4, "tensor": 2}
    assert record["nonfinite_steps"] == 0
    for entry, told in zip(record["steps"], steps, strict=True):
        if name == "float32":
            assert entry["loss"] == pytest.approx(told["loss"], rel=5e-6)
            assert entry["grad_norm"] == pytest.approx(told["grad_norm"], rel=1e-4)
            assert entry["learning_rate"] == pytest.approx(told["learning_rate"], rel=1e-6)
            assert "loss_scale" not in entry
        else:
            check_float16(entry, told, lambda value: value is not None)


def test_given_parameters_begin_as_float16_makes_them(alone: Alone) -> None:
    third = jax.numpy.float32(1 / 3)
    made = beginning.as_fresh(alone.case, alone.case.model, {"scale": third})["scale"]
    assert made.dtype == np.float32
    assert float(made) == float(np.float16(1 / 3))
    decoder = reading.load("01_baseline")
    assert beginning.as_fresh(decoder, decoder.model, {"scale": third})["scale"] == third


def test_float16_without_a_scale_is_one_line() -> None:
    case = reading.load("30_pipeline", "tiny", ["optim.name=adamw", *ALONE])
    told = r"^model\.dtype=float16: optim\.name=adamw does not scale the loss$"
    with pytest.raises(UserError, match=told):
        train_step.make_trainer(case, "linen", mesh.make(case, jax.devices()[:1]))
