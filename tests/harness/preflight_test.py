"""The command, on the real decoder compiled for a slice that is not there."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness import hlo, preflight
from harness.cases import families, reading
from harness.records.record import blank
from harness.slices import answering, compilation, forecast_text, topology
from harness.slices.forecast import Forecast, Question
from harness.terminal import cli
from harness.terminal.errors import UserError
from harness.training import train_step
from harness.training.compiler_options import compiler_options
from harness.training.parallel import mesh
from models.decoder import tflop_per_step
from models.decoder.config import ModelConfig
from models.shared import ops, partitioning

GIB = 2**30
SLICE = "v6e-8"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("libtpu", reason="libtpu compiles for TPUs; it comes with the extra tpu")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, list[dict[str, Any]]]]:
    """Runs the command: exit code, what it printed, the records."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for name in ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.setenv(name, os.environ.get(name, "localhost"))

    def run(*arguments: str) -> tuple[int, str, list[dict[str, Any]]]:
        path = tmp_path / "records.json"
        code = preflight.main([*arguments, "--json", str(path)])
        return code, capsys.readouterr().out, json.loads(path.read_text())

    return run


def recomputed_flops(model: ModelConfig, tokens: int) -> int:
    """What remat "full" multiplies again: a layer's forward pass, but wo, whose result is known."""
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = 2 * model.embed * model.mlp + model.embed * (2 * queries + 2 * keys)
    return model.layers * 2 * tokens * layer


def weight_flops(model: ModelConfig, length: int) -> float:
    tflop, attention_percent = tflop_per_step(model, length, 1)
    return tflop * 1e12 * (1 - attention_percent / 100)


def test_a_tiny_case_is_compiled_read_and_recorded(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    code, output, records = command(
        "--case", "03_dropout", "--topology", SLICE, "--size", "tiny", "--set", "run.steps=3"
    )
    assert code == 0
    assert [record["impl"] for record in records] == ["linen", "nnx"]
    for record in records:
        assert (record["status"], record["size"]) == ("preflight", "tiny")
        assert record["case"]["config"]["run.steps"] == 3
        environment = record["environment"]
        assert environment["platform"] == "tpu"
        assert environment["device_kind"] == "TPU v6 lite"
        assert (environment["device_count"], environment["topology"]) == (8, SLICE)
        assert environment["hostname"] is None
        told = record["program"]["compiler_options"]
        assert told == compiler_options(reading.load("03_dropout"), "tpu")
        memory = record["memory"]
        parts = ("argument", "output", "temp", "alias")
        argument, output_bytes, temp, alias = (memory[f"{part}_bytes"] for part in parts)
        assert memory["total_bytes"] == argument + output_bytes + temp - alias
        assert memory["capacity_bytes"] == 32 * GIB
        assert record["timing"]["compile_seconds"] > 0
        assert record["program"]["wire_bytes"] > 0
        assert record["prediction"]["step_seconds"] > 0
    linen, nnx = records
    assert linen["program"] == nnx["program"]
    assert linen["case"]["hash"] == nnx["case"]["hash"]
    assert nnx["warnings"] == ["not compiled again: lowered to the very text of linen"]
    for line in (
        "linen and nnx: the same program: one lowered text",
        "linen and nnx in turns: both states fit: ",
        " MiB of a device's 32.0 GiB, headroom 31.",
        "memory: argument 517.000 KiB, ",
        "params/decoder/layers/mlp/wi_0/kernel",
        "04_int8 on v6e-32: 0.174 s, measured 0.230: -24.2 %",
    ):
        assert line in output
    told = [line for line in output.splitlines() if not line.endswith(" ...")]
    answer = next(line for line in told if line.startswith(f"03_dropout on {SLICE}: fits: "))
    assert re.search(r"; predicted step: 0\.\d{4} s$", answer)
    assert told.index(answer) < told.index("in detail, of a device:")
    for part in ("attention", "mlp", "norm", "head", "embedding", "loss", "optimizer", "copies"):
        assert f"\n  {part} " in output

    page = tmp_path / "page.md"
    _, output, (again, _) = command(
        "--case", "03_dropout", "--topology", f"{SLICE},{SLICE}", "--size", "tiny",
        "--set", "run.steps=3", "--impl", "nnx", "--markdown", str(page),
    )  # fmt: skip
    assert again["program"] == linen["program"]
    assert again["memory"] == linen["memory"]
    assert again["warnings"] == ["not compiled again: taken from the cache, with its compile time"]
    assert "compile ..." not in output
    assert "03_dropout: cost against chips" in output
    assert f"| 03_dropout | {SLICE} | nnx | 0.000 |" in page.read_text()
    assert f"| `{again['program']['optimized_sha256'][:12]}` |" in page.read_text()

    # Every product of the formula and of remat; plain attention multiplies all of [T, T], in two
    # products forward, two again and four backward.
    model, length = reading.load("03_dropout", "tiny").model, reading.TINY_SEQUENCE_LENGTH
    attention = 8 * 2 * model.layers * length**2 * model.heads * model.head_dim
    expected = weight_flops(model, length) + recomputed_flops(model, length) + attention
    assert linen["prediction"]["matmul_tflop"] == pytest.approx(expected / 1e12, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "03_dropout", "--topology", "v6e-33"], "v6e-33: no such TPU slice"),
        (["--case", "03_dropuot", "--topology", SLICE], "nearest: 03_dropout"),
        (["--case", "01_baseline,03_dropuot", "--topology", SLICE], "nearest: 03_dropout"),
        (["--case", "03_dropout", "--topology", SLICE, "--set", "model.embd=1"], "model.embd"),
        (["--case", "03_dropout", "--topology", SLICE, "--json", "no/such/f"], "no folder no/such"),
        (["--case", "03_dropout"], "--topology"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        preflight.main(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_input_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["preflight", "--case", "all", "--topology", "v9-8"])
    with pytest.raises(SystemExit, match="2"):
        cli.main(preflight.main)
    assert capsys.readouterr().err.startswith("error: --topology v9-8")


def test_a_case_that_does_not_fit_is_one_line_and_1(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(lowered: object, trainer: object) -> None:
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, 294.25G of 31.25G.\n\nAllocations: ..."
        )

    monkeypatch.setattr(train_step, "compile_step", exhausted)
    code, output, (record,) = command(
        "--case", "01_baseline", "--topology", SLICE, "--size", "tiny", "--impl", "nnx",
        "--set", "data.per_device_batch=2",
    )  # fmt: skip
    told = "does not fit: Ran out of memory on HBM, 294.25G of 31.25G."
    assert code == 1
    assert record["error"] == told
    assert record["memory"]["total_bytes"] is None
    assert f"\n01_baseline on v6e-8: {told}\n\nin detail, of a device:\n" in output


def test_programs_that_differ_are_told_by_what_differs() -> None:
    text = "HloModule m\nENTRY main {{\n  x = f32[8] parameter(0)\n  ROOT y = f32[8] {}(x, x)\n}}\n"
    sides: list[Any] = [
        SimpleNamespace(
            question=SimpleNamespace(impl=impl),
            record={"program": {"optimized_sha256": impl}},
            stablehlo_sha256=impl,
            program=hlo.parse(text.format(operation)),
        )
        for impl, operation in (("linen", "add"), ("nnx", "multiply"))
    ]
    told = forecast_text.same_program(*sides).splitlines()
    assert told[0] == "linen and nnx: different programs; what differs is mathematics (2):"
    assert len(told) == 3


INEXACT = """HloModule m, num_partitions=8

%again (c: f32[512,512]) -> pred[] {
  %c = f32[512,512]{1,0} parameter(0)
  ROOT %large = pred[] unheard-of(%c)
}

%body (b: f32[512,512]) -> f32[512,512] {
  %b = f32[512,512]{1,0} parameter(0)
  ROOT %g = f32[512,512]{1,0} copy(%b), backend_config={"estimated_cycles":"1750"}
}

ENTRY %e (x: f32[512,512]) -> f32[512,512] {
  %x = f32[512,512]{1,0} parameter(0)
  %w = f32[512,512]{1,0} while(%x), condition=%again, body=%body
  ROOT %d = f32[512,512]{1,0} dot(%w, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_what_is_not_exact_or_wasted_is_said_wherever_it_is_shown(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("argument", "output", "temp", "alias", "generated_code")
    memory = {f"{name}_size_in_bytes": 1024 for name in names}
    compiled = compilation.CompiledStep(INEXACT, memory, 1.0)
    monkeypatch.setattr(compilation, "find", lambda *_: compiled)
    unnamed = replace(families.load(None), parts=None)
    monkeypatch.setattr(families, "of", lambda case: unnamed)
    page = tmp_path / "page.md"
    _, output, records = command(
        "--case", "01_baseline", "--topology", SLICE, "--size", "tiny", "--markdown", str(page)
    )
    inexact = "counts are too low: no trip count can be told for w, so one trip is counted"
    for record in records:
        assert record["program"]["inexact"] == [inexact]
        assert inexact in record["warnings"]
        # 2 x 512^3 operations for the 0.0000409 TFLOP of the formula.
        assert [line for line in record["warnings"] if "take 6.56 times the TFLOP" in line]
    assert output.count(inexact) == 1  # said of the first, and not of the second again
    assert "the family names no parts" in output
    assert page.read_text().count("| ≈0.0000 | ≈0.00 | ≈0.0000 |") == 2
    assert page.read_text().count(f"- 01_baseline on {SLICE}: {inexact}") == 1


def tiny_program(
    implementation: str = "nnx", recipe: str = "reference", **changes: Any
) -> hlo.Program:
    """The tiny baseline's step for the slice, with other settings of the model."""
    case = reading.load("01_baseline", "tiny", recipe=recipe)
    case = replace(case, model=replace(case.model, **changes))
    grid = mesh.make(case, topology.find(SLICE).devices())
    trainer = train_step.make_trainer(case, implementation, grid)
    lowered = train_step.trace_step(trainer).lower()
    return hlo.parse(train_step.compile_step(lowered, trainer).as_text() or "")


@pytest.mark.tpu_compile
def test_a_changed_twin_is_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    original = tiny_program("linen")
    assert hlo.diff(original, tiny_program("nnx")) == []

    epsilons = hlo.diff(original, tiny_program(norm_epsilon=1e-6))
    assert {found.opcode for found in epsilons} == {"constant"}
    assert any("1e-06" in found.detail and "norm" in found.where for found in epsilons)

    with monkeypatch.context() as patch:
        norm = ops.rms_norm

        def cast(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
            return norm(x.astype(jnp.float8_e4m3fn).astype(x.dtype), scale, epsilon)

        patch.setattr(ops, "rms_norm", cast)
        casts = hlo.diff(original, tiny_program())
    assert any(found.shape.startswith("f8e4m3fn") and not found.count_a for found in casts)

    with monkeypatch.context() as patch:
        patch.setitem(mesh.RULES, "embed", None)
        lost = hlo.diff(original, tiny_program())
    gathers = [found for found in lost if found.opcode == "all-gather"]
    assert gathers
    assert all(found.count_b < found.count_a for found in gathers)
    assert partitioning.is_sharded("embed") is False  # outside a trace nothing is


@pytest.mark.tpu_compile
def test_sparsecores_move_weights_and_gradients_by_the_experimental_recipe(cache: Path) -> None:
    program = tiny_program(recipe="experimental", embed=512, mlp=1024)
    moved = Counter(
        instruction.opcode
        for computation in program.computations.values()
        for instruction in computation.instructions.values()
        if "DEVICE_TYPE_SPARSECORE" in instruction.attributes.get("backend_config", "")
    )
    matrices = 7 * 2 + 1  # of two layers, and the head's
    assert moved["reduce-scatter"] >= matrices
    assert moved["all-gather"] >= matrices


@pytest.mark.tpu_compile
def test_the_program_does_not_grow_with_the_layers(cache: Path) -> None:
    few, many = (tiny_program(layers=layers) for layers in (4, 16))

    def operations(program: hlo.Program) -> int:
        return sum(len(one.instructions) for one in program.computations.values())

    assert operations(many) == pytest.approx(operations(few), rel=0.02)


def full_size(case: str, slices: str, folder: Path) -> list[dict[str, Any]]:
    """The records of the command as a user calls it, with the user's cache."""
    path = folder / "records.json"
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, "-m", "harness.preflight", "--case", case, "--topology", slices,
         "--json", str(path)],
        check=True,
        env=environment,
    )  # fmt: skip
    records: list[dict[str, Any]] = json.loads(path.read_text())
    return records


@pytest.mark.tpu_compile
@pytest.mark.parametrize(
    ("case", "on", "state_gib", "most_gib"),
    [("03_dropout", "v6e-32", 0.386, 0.80), ("08_checkpoint_async_true", "v6e-8", 1.543, 3.23)],
)
def test_the_full_size_needs_no_more_than_the_reference(
    case: str, on: str, state_gib: float, most_gib: float, cache: Path, tmp_path: Path
) -> None:
    linen, nnx = full_size(case, on, tmp_path)
    memory = linen["memory"]
    assert memory["argument_bytes"] / GIB == pytest.approx(state_gib, abs=5e-4)
    assert memory["output_bytes"] / GIB == pytest.approx(state_gib, abs=5e-4)
    assert memory["total_bytes"] / GIB <= most_gib
    assert linen["program"]["optimized_sha256"] == nnx["program"]["optimized_sha256"]

    settings = reading.load(case)
    length = settings.data.sequence_length
    # Attention is in Pallas kernels, which no count sees: weights only.
    expected = weight_flops(settings.model, length) + recomputed_flops(settings.model, length)
    assert linen["prediction"]["matmul_tflop"] == pytest.approx(expected / 1e12, rel=0.02)


@pytest.mark.tpu_compile
def test_two_at_once_work(cache: Path, tmp_path: Path) -> None:
    commands = [
        [sys.executable, "-m", "harness.preflight", "--case", "01_baseline", "--size", "tiny",
         "--impl", "nnx", "--topology", name]
        for name in (SLICE, "v6e-16")
    ]  # fmt: skip
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    running = [subprocess.Popen(command, env=environment) for command in commands]
    assert [child.wait() for child in running] == [0, 0]


def searched(case: str, *arguments: str) -> list[str]:
    return ["--case", case, "--topology", SLICE, "--size", "tiny", "--search", *arguments]


def by_formula(question: Question, phase: object, twin: object) -> Forecast:
    """A forecast without a compilation, whose figures tell the settings apart."""
    case = question.case
    record = blank("search", "preflight")
    batch, again = case.data.per_device_batch, case.model.remat != "none"
    parallel = dataclasses.asdict(case.parallel)
    step = 1e-3 * (2 + batch * (1.5 if again else 1) + parallel["data"] + parallel["tensor"])
    record["case"] = reading.described(case, question.size, question.recipe)
    record["environment"] |= {"device_kind": "TPU v6 lite", "device_count": 8}
    record["model"] |= {"tflop_per_step_per_device": batch / 10, "attention": "xla"}
    record["memory"] = dict.fromkeys(record["memory"], 0) | {
        "total_bytes": int(batch * (0.2 if again else 3) * GIB), "capacity_bytes": 32 * GIB,
    }  # fmt: skip
    record["program"] |= {"inexact": [], "optimized_sha256": "0" * 64, "wire_bytes": 0}
    record["timing"]["compile_seconds"] = 0.0
    record["prediction"] = {
        "step_seconds": step, "compute_seconds": step / 2, "kernel_seconds": 0.0,
        "wire_seconds": step / 2, "exposed_wire_seconds": step / 4, "exposed_copy_seconds": 0.0,
        "cycles_by_part": {"mlp": 3, "attention": 1}, "caution": None, "checked_against": [],
    }  # fmt: skip
    return Forecast(question, record, hlo.parse(INEXACT), state_bytes=0, sequences=8 * batch)


def test_each_row_of_a_search_is_what_its_settings_alone_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("libtpu", reason="libtpu compiles for TPUs; it comes with the extra tpu")
    monkeypatch.setattr(answering, "make", by_formula)
    page, path = tmp_path / "page.md", tmp_path / "search.json"
    given = ["--set", "run.steps=3", "--impl", "nnx"]
    files = ["--json", str(path), "--markdown", str(page)]
    assert preflight.main(searched("01_baseline", *given, *files)) == 0
    output = capsys.readouterr().out
    document = json.loads(path.read_text())
    rows = document["rows"]
    assert rows[0]["options"] == "--set run.steps=3"
    assert (document["untried"], document["impl"]) == ([], "nnx")
    for row in rows:
        case = reading.load(
            "01_baseline", "tiny", [*row["options"].split("--set ")[1:]], row["candidate"]["recipe"]
        )
        assert case.run.steps == 3
        alone = by_formula(Question(case, "tiny", "reference", "nnx", topology.find(SLICE)), 0, 0)
        assert row["figures"]["step_seconds"] == alone.record["prediction"]["step_seconds"]
        assert row["figures"]["needed_bytes"] == alone.needed_bytes
        if row["is_best"]:
            assert f"  {row['options']}\n" in output
            assert f"| {row['options']} |" in page.read_text()
    best = max(rows, key=lambda row: row["tokens_per_second_per_chip"])
    assert best["is_best"]
    speed = best["figures"]["tokens"] / best["figures"]["step_seconds"]
    assert best["tokens_per_second_per_chip"] == speed
    assert f"{speed:,.0f}  " in output
    assert "(mlp 75 %, attention 25 %)" in output
    assert any("--recipe fast" in row["options"] for row in rows)
    assert "would need about" in output
    assert "a step, and needs no less" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "all", "--topology", SLICE], "of one case, on one slice"),
        (["--case", "01_baseline,03_dropout", "--topology", SLICE], "of one case, on one slice"),
        (["--case", "01_baseline", "--topology", f"{SLICE},{SLICE}"], "of one case, on one slice"),
        (["--case", "01_baseline", "--topology", "v4-8"], "no step can be predicted for v4-8"),
        (["--case", "01_baseline", "--topology", f"2x{SLICE}"], "no step can be predicted for 2x"),
        (
            ["--case", "01_baseline", "--topology", SLICE, "--search-minutes", "0"],
            "0: must be a number",
        ),
    ],
)
def test_a_search_of_what_cannot_be_searched_is_refused(arguments: list[str], message: str) -> None:
    pytest.importorskip("libtpu", reason="libtpu compiles for TPUs; it comes with the extra tpu")
    with pytest.raises(UserError, match=message):
        preflight.main([*arguments, "--search"])


@pytest.mark.tpu_compile
def test_a_row_of_a_search_is_compiled_into_the_same_alone(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "search.json"
    given = ["--set", "run.steps=3", "--impl", "nnx", "--search-minutes", "1"]
    assert preflight.main(searched("01_baseline", *given, "--json", str(path))) == 0
    rows = [row for row in json.loads(path.read_text())["rows"] if row["is_best"]]
    assert len(rows) > 2
    for row in rows:
        _, _, (alone,) = command(
            "--case", "01_baseline", "--topology", SLICE, "--size", "tiny", "--impl", "nnx",
            *row["options"].split(),
        )  # fmt: skip
        assert row["figures"]["step_seconds"] == alone["prediction"]["step_seconds"]
        memory = alone["memory"]
        needed = memory["total_bytes"] + memory["generated_code_bytes"]
        assert row["figures"]["needed_bytes"] == needed
