"""The GPT is trained as Megatron-LM's core does: in float32, and in float16 with its scale."""

from pathlib import Path
from typing import Any

import commands
import gpt_inputs as inputs
import jax
import numpy as np
import pytest

from harness.cases import reading
from harness.errors import UserError
from harness.training import train_step
from harness.training.parallel import mesh


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with parameters and tokens."""
    folder = tmp_path_factory.mktemp("given")
    arrays: dict[str, Any] = inputs.parameters()
    np.savez(folder / "params.npz", **arrays)
    tokens = inputs.tokens()
    np.savez(folder / "tokens.npz", inputs=tokens[:, :-1], targets=tokens[:, 1:])
    return folder


def run(given: Path, results: Path, name: str, impl: str, *more: str) -> list[dict[str, Any]]:
    """The steps of a run by the command."""
    settings = [*inputs.SETTINGS, *inputs.OWN_SETTINGS[name], "checkpoint.enabled=false", *more]
    settings.append(f"data.tokens={given / 'tokens.npz'}")
    done = commands.run(
        *("--case", "30_pipeline", "--size", "tiny", "--impl", impl, "--devices", "1"),
        *("--restore", given / "params.npz", "--results-dir", results, "--run-id", "a"),
        *("--steps", str(len(inputs.RUNS[name]["steps"]))),
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert done.returncode == 0, done.stderr
    record = commands.record_of(results / "a")
    assert record["nonfinite_steps"] == 0
    steps: list[dict[str, Any]] = record["steps"]
    return steps


def test_steps_in_float32_are_megatrons(given: Path, tmp_path: Path) -> None:
    steps = run(given, tmp_path, "float32", "linen")
    for entry, told in zip(steps, inputs.RUNS["float32"]["steps"], strict=True):
        assert entry["loss"] == pytest.approx(told["loss"], rel=5e-7)
        assert entry["grad_norm"] == pytest.approx(told["grad_norm"], rel=2e-5)
        assert entry["learning_rate"] == pytest.approx(told["learning_rate"], rel=1e-6)
        assert "loss_scale" not in entry


def test_steps_in_float16_are_skipped_where_megatrons_are(given: Path, tmp_path: Path) -> None:
    name = "float16, window 4"
    steps = run(given, tmp_path, name, "nnx")
    for entry, told in zip(steps, inputs.RUNS[name]["steps"], strict=True):
        assert (entry["skipped"], entry["loss_scale"]) == (told["skipped"], told["loss_scale"])
        assert entry["loss"] == pytest.approx(told["loss"], rel=3e-3)
        if told["skipped"]:
            assert entry["grad_norm"] is entry["learning_rate"] is None
        else:
            assert entry["grad_norm"] == pytest.approx(told["grad_norm"], rel=0.1)
            assert entry["learning_rate"] == pytest.approx(told["learning_rate"], rel=1e-6)


def test_float16_without_a_scale_is_one_line() -> None:
    case = reading.load("30_pipeline", "tiny", ["optim.name=adamw"])
    told = r"^model\.dtype=float16: optim\.name=adamw scales no loss$"
    with pytest.raises(UserError, match=told):
        train_step.make_trainer(case, "linen", mesh.make(case, jax.devices()[:1]))
