"""The benchmarks' own parts, and that NNX's ways across jit train the same."""

import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import programs
import pytest

from harness import run
from harness.cases import reading
from harness.cases.settings import Case
from harness.saving import digest
from harness.terminal.errors import UserError
from harness.training import train_step
from harness.training.parallel import mesh

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"
CASE = reading.load("04_int8", "tiny", ["data.per_device_batch=1", "model.dropout_rate=0.1"])
SCALED = reading.load(
    "30_pipeline",
    "tiny",
    [
        *("model.layers=2", "parallel.stage=1", "parallel.tensor=1", "data.sequence_length=8"),
        *("data.microbatches=1", "data.global_batch=2", "optim.initial_loss_scale=1024"),
    ],
)


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return importlib.import_module("measuring")


def trained(
    case: Case, mode: train_step.NnxState, devices: int
) -> tuple[list[float], digest.Digests]:
    """The losses of three steps, and the digests of the state after them."""
    grid = mesh.make(case, jax.devices()[:devices])
    trainer = train_step.make_trainer(case, "nnx", grid, nnx_state=mode)
    compiled = train_step.compile_step(train_step.trace_step(trainer).lower(), trainer)
    state = programs.fresh_state(trainer, jnp.uint32(0))
    inputs = train_step.make_inputs(case, grid)
    carrier = trainer.carrier
    call = carrier.call(compiled) if carrier else compiled
    carried = carrier.enter(state) if carrier else state
    losses = []
    for _ in range(3):
        carried, metrics = call(carried, inputs)
        losses.append(float(metrics["loss"]))
    final = carrier.leave(carried) if carrier else carried
    assert len({jax.tree.structure(tree) for tree in (final, trainer.state)}) == 1
    pairs = zip(jax.tree.leaves(final), jax.tree.leaves(trainer.state), strict=True)
    assert all(leaf.sharding.is_equivalent_to(told.sharding, leaf.ndim) for leaf, told in pairs)
    return losses, digest.array_digests(final)


@pytest.mark.parametrize(
    ("case", "devices", "arrays"), [(CASE, 4, 39), (SCALED, 1, 54)], ids=["decoder", "gpt"]
)
def test_every_way_across_jit_trains_the_same_bit_for_bit(
    case: Case, devices: int, arrays: int
) -> None:
    """Also where layers are stacked otherwise than in NNX's module, and the loss is scaled."""
    plain = trained(case, "dict", devices)
    assert len(plain[1]) == arrays
    assert len(set(plain[0])) == 3
    assert trained(case, "state", devices) == plain
    assert trained(case, "jit", devices) == plain


@pytest.mark.parametrize(
    "arguments",
    [["--impl", "linen"], ["--impl", "both"], ["--impl", "nnx", "--resume", "some"]],
    ids=" ".join,
)
def test_nnx_state_is_of_nnx_alone(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="--nnx-state jit: only with --impl nnx"):
        run.main(["--case", "03_dropout", "--nnx-state", "jit", *arguments])


def test_medians_and_ratios_tell_their_samples(measuring: ModuleType) -> None:
    assert measuring.median([0.001, 0.003, 0.002], 1e-3) == "2.00 (3)"
    assert measuring.median([]) == "-"
    assert measuring.ratio([1.0, 4.0, 9.0], [2.0, 2.0, 3.0]) == "2.000"


def test_a_table_has_its_environment_and_no_host_name(
    measuring: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = measuring.Table(Namespace(output=tmp_path / "new"), "some", "Some table", "About it.")
    assert table.environment.get("hostname")
    table.samples = {"a": [1.0]}
    table.write(["what", "s"], [["a", "1.00 (1)"]])
    text = (tmp_path / "new" / "some.md").read_text()
    assert "| a | 1.00 (1) |" in text
    assert "| a | 1.00 (1) |" in capsys.readouterr().out
    assert jax.__version__ in text
    written = json.loads((tmp_path / "new" / "some.json").read_text())
    assert written["table"] == [{"what": "a", "s": "1.00 (1)"}]
    assert written["samples"] == {"a": [1.0]}
    assert "hostname" not in written["environment"]
    assert written["warnings"] == []


def test_a_busy_machine_is_told(
    measuring: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    table = measuring.Table(Namespace(output=tmp_path), "some", "Some table", "About it.")
    table.write(["what"], [["a"]])
    assert "the machine was busy before the first run" in (tmp_path / "some.md").read_text()


def test_a_start_ends_at_the_line_of_the_first_step(measuring: ModuleType) -> None:
    told = "import time; print('completed step: 0, seconds: 1'); time.sleep(2)"
    assert 0 < measuring.start_seconds([sys.executable, "-c", told], {}) < 2
    with pytest.raises(UserError, match="failed: SystemExit"):
        measuring.start_seconds([sys.executable, "-c", "print('SystemExit'); exit(1)"], {})


def test_a_worker_serves_as_many_steps_as_it_is_asked(measuring: ModuleType) -> None:
    served = (
        "import sys; sys.path.insert(0, sys.argv[1]); from serving import serve;"
        "serve(lambda state: (state + 1, print('noise', state)), 0)"
    )
    worker = measuring.Worker([sys.executable, "-c", served, str(SCRIPTS)], {})
    assert [len(worker.steps(3)), len(worker.steps(1))] == [3, 1]
    worker.close()
    with pytest.raises((UserError, ValueError)):
        worker.steps(1)


def test_the_bridge_is_measured_in_every_way(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "bridge.py"), "--output", str(tmp_path)]
    done = subprocess.run([*command, "--repeats", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["way"]: row for row in json.loads((tmp_path / "bridge.json").read_text())["table"]}
    seam = [row for way, row in rows.items() if way.endswith("by the seam")]
    assert [row["program as Linen's"] for row in seam] == ["yes"] * 3
    assert {row["arrays of a checkpoint"] for row in seam} == {"39"}
    assert rows["bridge, as objects"]["arrays of a checkpoint"] == "41"
    assert rows["bridge, as objects"]["of them random state"] == "2"


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("gpu", [], "there is no GPU here"),
        ("startup", ["--repeats", "0"], "must be at least 1"),
        ("slices", ["--cases", "99"], "invalid choice"),
        ("batches", ["--ways", "slow"], "invalid choice"),
        ("peer", ["--environment", "nowhere", "--python", "python9.99"], "is not there"),
    ],
)
def test_bad_input_is_one_line(
    script: str, arguments: list[str], told: str, tmp_path: Path
) -> None:
    if script == "gpu" and list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a GPU")
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_gpu_computes_the_batch_of_the_published_run(measuring: ModuleType) -> None:
    gpu = importlib.import_module("gpu")
    assert gpu._published("04_int8") == (32, "8.175")
    assert gpu._published("01_baseline") == (8, "-")


@pytest.mark.tpu_compile
def test_more_chips_are_compiled_for_into_a_table(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "chips.py"), "--output", str(tmp_path)]
    subprocess.run([*command, "--cases", "01_baseline", "--slices", "v6e-8"], check=True)
    (row,) = json.loads((tmp_path / "chips.json").read_text())["table"]
    assert (row["case, slice"], row["chips"]) == ("01_baseline, v6e-8", "8")
    assert float(row["compile s"]) > 0 < float(row["read s"])


@pytest.mark.tpu_compile
def test_larger_batches_are_compiled_into_a_table(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "batches.py"), "--output", str(tmp_path)]
    given = ["--size", "tiny", "--batches", "1", "2", "--ways", "reference"]
    subprocess.run([*command, *given], check=True)
    written = json.loads((tmp_path / "batches.json").read_text())
    names = [row["sequences a chip: who"] for row in written["table"]]
    assert names == ["1: reference", "2: reference"]
    # Before they are rounded: tiny steps take as long to four digits.
    one, two = (written["samples"][name]["prediction"]["step_seconds"] for name in names)
    assert one < two
