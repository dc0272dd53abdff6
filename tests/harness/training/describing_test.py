"""What is said of a compiled step: quantised matmuls, counts that are not exact, waste."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import commands
import jax
import pytest

from harness import hlo, run
from harness.bisecting import examining
from harness.cases import families, reading
from harness.records.cautions import Caution
from harness.records.record import blank
from harness.records.recorder import Recorder
from harness.slices import compilation, topology
from harness.training import describing, devices, train_step
from harness.training.parallel import mesh
from models.decoder import quantized
from models.examples import gpt2
from models.examples.gpt2 import linen
from models.seam import USUAL_NAMES, Matched
from models.shared import partitioning

LAYERS = 16


def compiled(case: str, impl: str) -> hlo.Program:
    """The step's program for v6e-32, from the user's cache where it was compiled before."""
    on = topology.find("v6e-32")
    loaded = reading.load(case)
    trainer = train_step.make_trainer(loaded, impl, mesh.make(loaded, on.devices()))
    lowered = train_step.trace_step(trainer).lower()
    stablehlo = hlo.stablehlo_sha256(lowered)
    found = compilation.find(stablehlo, trainer.compiler_options, on)
    return hlo.parse((found or compilation.compile_step(lowered, trainer, stablehlo, on)).text)


@pytest.mark.tpu_compile
@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize(
    ("case", "forward", "backward", "gathered"),
    [
        ("04_int8", "s8 x s8 -> s32", {"s8 x s8 -> s32"}, "s8"),
        ("05_fp8", "f8e4m3fn x f8e4m3fn -> f32",
         {"f8e4m3fn x f8e5m2 -> f32", "f8e5m2 x f8e4m3fn -> f32"}, "f8e4m3fn"),
    ],
)  # fmt: skip
def test_every_matmul_of_the_layers_is_quantised(
    case: str, impl: str, forward: str, backward: set[str], gathered: str
) -> None:
    text = compiled(case, impl)

    counts: dict[str, dict[str, int]] = {"forward": {}, "recomputed": {}, "backward": {}}
    for entry in describing.quantized_matmuls(text, quantized):
        allowed = backward if entry["pass"] == "backward" else {forward}
        assert entry["operation"] in allowed, entry
        of_pass = counts[entry["pass"]]
        of_pass[entry["matmul"]] = of_pass.get(entry["matmul"], 0) + entry["count"]
    assert counts["forward"] == dict.fromkeys(quantized, LAYERS)
    # What wo gives is not needed again.
    assert counts["recomputed"] == dict.fromkeys(set(quantized) - {"wo"}, LAYERS)
    assert counts["backward"] == dict.fromkeys(quantized, 2 * LAYERS)

    travelling: dict[str, set[str]] = {name: set() for name in quantized}
    for collective in hlo.list_collectives(text):
        for name in quantized:
            if collective.kind == "all-gather" and f"['{name}']['kernel']" in collective.argument:
                travelling[name].add(collective.dtype)
    assert travelling == {name: {gathered} for name in quantized}


PRODUCT = """HloModule m, num_partitions=8

%multiplied (p: f32[100,100]) -> f32[100,100] {
  %p = f32[100,100]{1,0} parameter(0)
  ROOT %d = f32[100,100]{1,0} dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%added (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

ENTRY %e (x: f32[100,100], which: pred[]) -> f32[100,100] {
  %x = f32[100,100]{1,0} parameter(0)
  %which = pred[] parameter(1)
  %y = f32[100,100]{1,0} call(%x), to_apply=%multiplied
  ROOT %r = f32[100,100]{1,0} all-reduce(%y), replica_groups=[1,8]<=[8], to_apply=%added
}
"""


@pytest.mark.parametrize(
    ("times", "attention_percent", "idle_percent", "is_told"),
    [
        (1.49, 0, 0, False),
        (1.51, 0, 0, True),
        # All of attention instead of half of it, and everything forward twice: 4/3 of 1.3.
        (1.73, 30, 0, False),
        (1.74, 30, 0, True),
        # Of seven ticks a stage has nothing to do in three.
        (2.62, 0, 100 * 3 / 7, False),
        (2.63, 0, 100 * 3 / 7, True),
    ],
)
def test_more_products_than_the_formula_explains_are_told(
    times: float, attention_percent: float, idle_percent: float, is_told: bool
) -> None:
    found = describing.wasted(hlo.parse(PRODUCT), 2e-6 / times, attention_percent, idle_percent)
    assert (found is not None) == is_told
    if found is not None:
        assert found["ratio"] == pytest.approx(times)
        assert found["collective"] == "all-reduce of f32[100,100]"


def test_products_that_may_not_run_are_no_waste() -> None:
    branch = "conditional(%which, %x, %x), true_computation=%multiplied, false_computation="
    text = PRODUCT.replace("call(%x), to_apply=", branch)
    assert describing.wasted(hlo.parse(text), 1e-9, 0) is None


@pytest.mark.parametrize(("idle_percent", "told"), [(0.0, 1), (100 * 3 / 7, 0)])
def test_what_idle_stages_multiply_is_no_waste(idle_percent: float, told: int) -> None:
    recorder = Recorder(blank("a-run", "failed"))
    recorder.note("model", tflop_per_step_per_device=1e-6, attention_tflop_percent=0.0)
    recorder.set(warnings=[], pipeline={"bubble_percent": {"predicted": idle_percent}})
    describing.warn(hlo.parse(PRODUCT), recorder)
    assert len(recorder.record["warnings"]) == told


WASTEFUL = """
import types

import jax
import jax.numpy as jnp
from models.examples.gpt2 import SIZES, ModelConfig, nnx, tflop_per_step
from models.examples.gpt2 import linen as own
from models.shared import partitioning

partitioning.constrain = lambda x, axes: x

def apply(config, params, tokens, key):
    start = jax.lax.stop_gradient(params["h_0"]["attn"]["proj"]["kernel"])
    power = jax.lax.while_loop(lambda x: jnp.max(x) > 1e9, lambda x: x @ x, start)
    return own.apply(config, params, tokens, key) + 0 * jnp.sum(power)

linen = types.SimpleNamespace(init=own.init, apply=apply, logical_axes=own.logical_axes)
"""


def test_a_run_says_what_is_wasted_and_what_is_not_exact(tmp_path: Path) -> None:
    (tmp_path / "wasteful.py").write_text(WASTEFUL)
    arguments = ("--twins", "wasteful", "--case", "01_baseline", "--impl", "linen", "--run-id", "a")
    settings = ("--set", "model.layers=1", "--steps", "1", "--devices", "8")
    ended = subprocess.run(
        commands.command(*arguments, *settings, "--results-dir", tmp_path),
        env=commands.ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    record = commands.record_of(tmp_path / "a")
    (inexact,) = record["program"]["inexact"]
    assert inexact.startswith("counts are too low: no trip count can be told for while")
    assert inexact in record["warnings"]
    (wasted,) = (line for line in record["warnings"] if "times the TFLOP" in line)
    assert "largest collective: all-reduce of f32[8,64,256]" in wasted
    for line in (inexact, wasted):
        assert f"warning: {line}" in ended.stdout


def test_a_check_says_what_is_wasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "prepare_cpus", lambda count: jax.devices()[:count])
    pair = ModuleType("one_twice")  # lowered to one text, so compiled once
    pair.__dict__.update(vars(gpt2), IMPLEMENTATIONS=("one", "two"), one=linen, two=linen)
    monkeypatch.setitem(sys.modules, "one_twice", pair)
    monkeypatch.setattr(partitioning, "constrain", lambda x, axes: x)
    nothing = SimpleNamespace(is_rounding=True)
    monkeypatch.setattr(examining.asking, "of_pair", lambda case: nothing)
    monkeypatch.setattr(examining.telling, "verdict", lambda found: [])
    assert run.main(["--twins", "one_twice", "--check", "--set", "model.layers=1"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "warning: " in line]
    assert [line.split(":")[1] for line in told] == [" one", " two"]
    assert all("largest collective: all-reduce of f32[64,64,256]" in line for line in told)


@pytest.mark.parametrize(
    ("platform", "dtype", "told"),
    [("tpu", "float16", True), ("tpu", "bfloat16", False), ("gpu", "float16", False)],
)
def test_float16_on_a_tpu_is_told_of(platform: str, dtype: str, told: bool) -> None:
    case = mesh.alone(reading.load("30_pipeline", "tiny", [f"model.dtype={dtype}"]))
    trainer = train_step.make_trainer(case, "nnx", mesh.make(case, jax.devices()[:1]))
    grid: Any = SimpleNamespace(
        platform=platform, kind="a kind", batch_parts=1, devices=1, mesh=trainer.grid.mesh
    )
    recorder = Recorder(blank("a-run", "failed"))
    recorder.set(warnings=[])
    describing.describe_model(case, trainer._replace(grid=grid), recorder)
    warned = [line for line in recorder.record["warnings"] if "model.dtype=float16" in line]
    assert bool(warned) is told


def test_a_run_of_a_pair_warns_of_what_its_numbers_cannot_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = mesh.alone(reading.load("01_baseline", "tiny"))
    trainer = train_step.make_trainer(case, "nnx", mesh.make(case, jax.devices()[:1]))
    found = Matched(
        names=(),
        alone=(),
        differing=("a line",),
        unsure=(),
        started=(),
        uncompared=("an optimizer",),
    )
    family = dataclasses.replace(families.of(case), matched=lambda: found)
    monkeypatch.setattr(families, "of", lambda case: family)
    recorder = Recorder(blank("a-run", "failed"))
    recorder.set(warnings=[])
    describing.describe_model(case, trainer, recorder)
    warned = Caution.NOT_COMPARED.among(recorder.record["warnings"])
    assert [*warned] == ["an optimizer", describing.UNTESTED]
    assert describing.UNTESTED not in "".join(describing.matched(family))  # a check looks for it
