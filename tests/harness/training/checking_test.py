"""--twins: what a pair from elsewhere lacks is said, and what is whole is trained."""

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commands
import jax.numpy as jnp
import pytest

from harness.cases import families as pairs
from harness.cases import reading
from harness.terminal.errors import UserError
from harness.training import checking
from models.examples.gpt2 import linen as gpt2

GPT2 = "models.examples.gpt2"
CASE = reading.load("03_dropout", "tiny", ["data.sequence_length=16"], twins=GPT2)


def faults(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> list[str]:
    """Those of a pair whose second implementation has these functions instead."""
    wrong = SimpleNamespace(**vars(gpt2) | changed)
    right = pairs.load(GPT2)
    implementations: dict[str, Any] = {"linen": gpt2, "nnx": wrong}
    pair = replace(right, get=implementations.__getitem__)
    monkeypatch.setattr(checking, "of", lambda case: pair)
    return checking.faults(CASE)


def test_a_tree_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(model: Any, key: Any) -> Any:
        params = dict(gpt2.init(model, key))
        params["ln_final"] = params.pop("ln_f")
        params["wpe"] = {"embedding": params["wpe"]["embedding"][1:].astype(jnp.bfloat16)}
        return params

    found = faults(monkeypatch, init=init)
    assert "linen has the parameter ln_f/scale, nnx has not (nearest: ln_final/scale)" in found
    assert "wpe/embedding is float32[128, 64] in linen and bfloat16[127, 64] in nnx" in found
    assert "nnx: ln_final/bias, ln_final/scale have no logical axes" in found


def test_random_state_among_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(model: Any, key: Any) -> Any:
        return {**gpt2.init(model, key), "rngs": {"key": key, "count": jnp.uint32(0)}}

    found = faults(monkeypatch, init=init)
    assert sum("is random state" in fault for fault in found) == 2


def test_logical_axes_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def logical_axes(model: Any) -> Any:
        return {**gpt2.logical_axes(model), "ln_f": {"scale": ("norm", "x"), "bias": ("y",)}}

    found = faults(monkeypatch, logical_axes=logical_axes)
    assert "nnx: ln_f/scale is float32[64], but its logical axes are ('norm', 'x')" in found
    assert any("no rule for the logical axis 'y'; known are batch" in fault for fault in found)


def test_outputs_of_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(*arguments: Any) -> Any:
        return gpt2.apply(*arguments)[:, -1]

    assert faults(monkeypatch, apply=apply) == [
        "nnx: apply returns float32[1, 256], must return float32[1, 16, 256], [B, T, V]"
    ]


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        (None, ["mine: is not there"]),
        ("import missing_library\n", ["mine: does not import: ModuleNotFoundError"]),
        (
            "class linen:\n  def init(config): ...\n",
            [
                "mine: has no ModelConfig",
                "mine.linen: init(config) cannot be called as init(config, key)",
                "mine.linen: has no apply(config, params, tokens, key)",
                "mine.linen: has no logical_axes(config)",
                "mine: no implementation 'nnx'",
            ],
        ),
    ],
)
def test_half_a_pair_is_a_line_per_fault(
    text: str | None,
    complaints: list[str],
    tmp_path: Path,
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    ended = subprocess.run(
        commands.command("--twins", "mine", "--check"),
        cwd=tmp_path,
        env=commands.ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    assert len(lines) == len(complaints)
    for line, complaint in zip(lines, complaints, strict=True):
        assert line.startswith(f"error: --twins {complaint}")


def test_the_case_tells_which_twins() -> None:
    flat = reading.flatten(CASE)
    assert flat["twins"] == GPT2
    assert reading.from_flat("03_dropout", flat) == CASE
    assert "twins" not in reading.flatten(reading.load("03_dropout"))
    with pytest.raises(UserError, match=r"model.quantization: no such key"):
        reading.load("01_baseline", overrides=["model.quantization=int8"], twins=GPT2)


def test_both_are_trained_compared_and_restored_crosswise(tmp_path: Path) -> None:
    twins = "models.examples.bridge"
    names = pairs.load(twins).names
    arguments = ("--twins", twins, "--case", "03_dropout", "--results-dir", tmp_path)
    ended = commands.run(*arguments, "--run-id", "pair", "--set", "data.sequence_length=16")
    assert ended.returncode == 0, ended.stderr
    assert "bit-equal over 10 steps" in ended.stdout
    a, b = (commands.record_of(tmp_path / f"pair-{name}") for name in names)
    assert a["checkpoint"]["digest"] == b["checkpoint"]["digest"]
    assert a["case"] == b["case"]
    assert a["case"]["config"]["twins"] == twins
    again = commands.run(
        *(*arguments, "--set", "data.sequence_length=16", "--run-id", "crossed"),
        *("--impl", names[1], "--restore", tmp_path / f"pair-{names[0]}" / "checkpoints" / "0"),
    )
    assert again.returncode == 0, again.stderr
    crossed = commands.record_of(tmp_path / "crossed")
    assert [step["loss"] for step in crossed["steps"]] == [step["loss"] for step in a["steps"][1:]]
    assert crossed["checkpoint"]["digest"] == a["checkpoint"]["digest"]
