"""The command as a user gives it: what it prints, what it leaves, how it ends."""

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import record_of, run, start, status_of, until_step

from harness.records import journal

LINE = re.compile(
    r"completed step: (\d+), seconds: ([\d.]+), TFLOP/s/device: ([\d.]+),"
    r" Tokens/s/device: ([\d.]+), total_weights: (\d+), loss: ([\d.]+)"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def both(results: Path) -> subprocess.CompletedProcess[str]:
    """03_dropout with both implementations on two devices, seven steps."""
    return run(
        *("--case", "03_dropout", "--devices", "2", "--steps", "7", "--tensorboard"),
        *("--run-id", "both", "--results-dir", results, "--turns-seconds", "1"),
        *("--set", "eval.every=4", "--set", "eval.batches=2"),
        seconds=480,
    )


@pytest.fixture
def linen(both: subprocess.CompletedProcess[str], results: Path) -> dict[str, Any]:
    assert both.returncode == 0, both.stderr
    return record_of(results / "both-linen")


@pytest.fixture
def nnx(both: subprocess.CompletedProcess[str], results: Path) -> dict[str, Any]:
    return record_of(results / "both-nnx")


def test_every_step_is_a_line(both: subprocess.CompletedProcess[str]) -> None:
    lines = LINE.findall(both.stdout)
    assert [int(line[0]) for line in lines] == [*range(7), *range(7)]
    assert {line[4] for line in lines} == {"128"}


def test_both_are_shown_side_by_side_and_the_records_come_last(
    both: subprocess.CompletedProcess[str], results: Path
) -> None:
    *_, linen_path, nnx_path = both.stdout.splitlines()
    assert linen_path == f"record: {results}/both-linen/record.json"
    assert nnx_path == f"record: {results}/both-nnx/record.json"
    compared = both.stdout[both.stdout.index("nnx against linen") :]
    assert re.search(r"^ +linen +nnx +ratio$", compared, re.MULTILINE)
    told = "bit-equal over 7 steps; evaluations bit-equal; the same final state"
    assert told in compared
    assert re.search(r"^program +the same, [0-9a-f]{12}$", compared, re.MULTILINE)


def test_the_sample_in_the_readme_is_what_is_printed(
    both: subprocess.CompletedProcess[str],
) -> None:
    """But for the figures, and for evaluations, which the run of the sample has not."""

    def shape(text: str) -> list[str]:
        verdict = text[text.rindex(": nnx against linen") :]
        whole = re.sub(r";\n +", "; ", verdict)  # a long line may be broken
        lines = [line for line in whole.splitlines()[1:] if re.match(r"[a-z ]+\b  +\w", line)]
        verdicts = lines[[line.split("  ")[0] for line in lines].index("answer") :][:7]
        told = "\n".join(verdicts).replace("evaluations bit-equal; ", "")
        told = re.sub(r"\b[0-9a-f]{12}\b", "FINGERPRINT", told)
        told = re.sub(r"[-+]?[0-9][\d,.]*(e-\d+)?( %| x)?", "N", told)
        return told.replace("(N to N; ", "(").splitlines()  # which a few blocks do not give

    sample = shape((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8"))
    assert [line.partition("  ")[0] for line in sample] == [
        *("answer", "numbers", "speed", "host dispatch", "memory", "program", "checkpoints"),
    ]
    assert shape(both.stdout) == sample


def test_the_twins_ended_in_one_state_by_one_program(
    linen: dict[str, Any], nnx: dict[str, Any]
) -> None:
    assert linen["checkpoint"]["digest"] == nnx["checkpoint"]["digest"]
    assert linen["program"] == nnx["program"]
    assert {"attention", "mlp", "head"} <= linen["program"]["tflop_by_part"].keys()
    assert linen["case"] == nnx["case"]
    same = ("step", "loss", "grad_norm", "learning_rate", "total_weights")
    for a, b in zip(linen["steps"], nnx["steps"], strict=True):
        assert [a[key] for key in same] == [b[key] for key in same]


def test_both_end_in_turns(
    both: subprocess.CompletedProcess[str], linen: dict[str, Any], nnx: dict[str, Any]
) -> None:
    assert re.search(r"^in turns: \d+ blocks of \d+ steps each", both.stdout, re.MULTILINE)
    assert (linen["turns"]["partner"], nnx["turns"]["partner"]) == ("both-nnx", "both-linen")
    assert linen["turns"]["order"].startswith("ABBA")
    assert nnx["turns"]["order"].startswith("BAAB")
    for turns in (linen["turns"], nnx["turns"]):
        assert len(turns["blocks"]) == turns["order"].count("A") >= 2
        assert all(block["seconds_per_step"] > 0 for block in turns["blocks"])
    warnings = [*linen["warnings"], *nnx["warnings"]]
    assert not any("in turns" in warning for warning in warnings)  # the same losses


def test_a_change_of_one_implementation_is_compared_with_the_case_as_given(tmp_path: Path) -> None:
    ended = run(
        *(*CASE, tmp_path, "--steps", "5", "--run-id", "one", "--turns-seconds", "1"),
        *("--against", "--set model.unroll=true --set optim.learning_rate=1e-3"),
        seconds=480,
    )
    assert ended.returncode == 0, ended.stderr
    given, changed = (record_of(tmp_path / name) for name in ("one-A", "one-B"))
    assert (given["impl"], changed["impl"]) == ("nnx", "nnx")
    assert given["case"]["config"]["model.unroll"] is False
    assert changed["case"]["config"]["model.unroll"] is True
    assert (given["turns"]["partner"], changed["turns"]["partner"]) == ("one-B", "one-A")
    assert "compared: case.config.model.unroll: false -> true" in ended.stdout
    assert "compared: case.config.optim.learning_rate: " in ended.stdout
    assert "not comparable" not in ended.stdout
    assert not any("in turns" in warning for warning in [*given["warnings"], *changed["warnings"]])


def test_the_record_is_whole(linen: dict[str, Any]) -> None:
    assert linen["status"] == "completed"
    assert linen["error"] is None
    assert (linen["impl"], linen["size"], linen["recipe"]) == ("linen", "tiny", "reference")
    assert linen["environment"]["device_count"] == 2
    assert linen["model"]["parameters"] == 115_008
    assert linen["model"]["attention"] == "xla"
    assert linen["memory"]["total_bytes"] > 0
    assert linen["memory"]["capacity_bytes"] is None
    assert linen["timing"]["mfu_percent"] is None
    phases = ("import", "trace", "lower", "compile", "init", "first_step", "wall", "host_dispatch")
    assert all(linen["timing"][f"{phase}_seconds"] > 0 for phase in phases)
    parts = sum(
        linen["timing"][f"{phase}_seconds"]
        for phase in ("import", "trace", "lower", "compile", "init")
    )
    assert parts < linen["timing"]["wall_seconds"]
    assert 0 < linen["timing"]["goodput_percent"] < 100
    assert linen["checkpoint"]["arrays"] == 39
    saves = linen["checkpoint"]["saves"]
    assert [save["step"] for save in saves] == [0, 6]
    assert all(save["bytes_per_second"] > 0 for save in saves)


def test_only_steady_steps_are_samples(linen: dict[str, Any]) -> None:
    """Not the first, two of warm-up, and the one after an evaluation."""
    seconds = [step["step_seconds"] for step in linen["steps"]]
    summary = linen["timing"]["step_seconds"]
    assert [step.get("after_eval", False) for step in linen["steps"]] == [*[False] * 4, True,
                                                                          False, False]  # fmt: skip
    assert summary["samples"] == 3
    assert summary["median"] == pytest.approx(np.median([seconds[3], *seconds[5:]]))
    assert linen["timing"]["first_step_seconds"] == seconds[0]
    assert [step["after_save"] for step in linen["steps"]] == [False, True] + [False] * 5
    rate = linen["model"]["tflop_per_step_per_device"] / summary["median"]
    assert linen["timing"]["tflops_per_device"] == pytest.approx(rate)
    assert linen["timing"]["tokens_per_second_per_device"] == pytest.approx(64 / summary["median"])


def test_what_lies_beside_the_record(linen: dict[str, Any], results: Path) -> None:
    folder = results / "both-linen"
    for name, expected in (
        ("metrics.jsonl", linen["steps"]),
        ("evals.jsonl", linen["evals"]),
        ("saves.jsonl", linen["checkpoint"]["saves"]),
    ):
        lines = journal.read(folder / name)
        assert (lines.entries, lines.faults) == (expected, [])
    assert [entry["step"] for entry in linen["evals"]] == [3, 6]
    assert {entry["total_weights"] for entry in linen["evals"]} == {2 * 128}
    assert status_of(folder) == {"state": "completed", "step": 6, "exit_code": 0}
    assert "model.dropout_rate: 0.1\n" in (folder / "config.txt").read_text()
    assert LINE.search((folder / "log.txt").read_text())
    assert list((folder / "tensorboard").glob("events.*"))
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"0", "6"}


def refused(*arguments: str | Path) -> str:
    ended = run(*arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    told = ended.stderr.splitlines() or [
        line for line in ended.stdout.splitlines() if line.startswith("error: ")
    ]
    assert len(told) == 1
    return told[0]


CASE = ("--case", "01_baseline", "--impl", "nnx", "--results-dir")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--case", "99_none"], "error: --case 99_none: no such case"),
        (["--impl", "flux"], "argument --impl: invalid choice: 'flux'"),
        (["--set", "model.embd=3"], "model.embd: no such key (nearest: model.embed)"),
        (["--set", "model.embed=wide"], "model.embed='wide': must be a whole number"),
        (["--set", "data.sequence_length=0"], "data.sequence_length=0: must be at least 1"),
        (["--set", "model.kv_heads=3"], "must be a multiple of kv_heads=3"),
        (["--set", "model.head_dim=15"], "model.head_dim=15: must be even"),
        (["--set", "data.global_batch=3", "--devices", "2"], "must be a multiple of the 2 devices"),
        (["--devices", "100"], "cannot be divided by the 100 devices"),
        (["--devices", "100000"], "--devices 100000: must be 1 to 512"),
        (["--steps", "none"], "argument --steps: invalid int value: 'none'"),
        (["--repeats", "0"], "--repeats 0: must be at least 1"),
        (["--against", "--steps 3"], "--against '--steps 3': may hold only --set, --recipe, --nn"),
        (["--against", "--set model.embd=3"], "model.embd: no such key (nearest: model.embed)"),
        (["--against", "--recipe fast", "--impl", "both"], "a change of one implementation"),
        (["--against", "'"], "No closing quotation"),
        (["--precision", "0"], "--precision 0.0: must be a number above 0"),
        (["--turns-seconds", "nan"], "--turns-seconds nan: must be a number above 0"),
        (["--run-id", "../away"], "run id '../away'"),
        (["--results-dir", "/dev/null/x"], "--results-dir /dev/null/x: /dev/null is not a folder"),
        (["--profile-steps", "5"], "--profile-steps 5: must be A:B"),
        (["--processes", "2"], "--coordinator, --processes and --process-id go together"),
        (["--resume", "nothing"], "--resume nothing: "),
        (["--restore", "/nowhere"], "/nowhere: does not exist"),
        (["--set", "model.attention=splash"], "model.attention=splash: needs a tpu"),
        (["--set", "data.tokens=/nowhere.npy"], "data.tokens=/nowhere.npy: No such file"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    assert complaint in refused(*CASE, tmp_path, *arguments)


def test_a_run_id_is_used_once(linen: dict[str, Any], results: Path) -> None:
    told = refused(*CASE, results, "--run-id", "both-linen")
    assert "already holds a run" in told
    assert record_of(results / "both-linen") == linen


def test_list() -> None:
    listed = run("--list")
    assert listed.returncode == 0
    assert [line.split(":")[0] for line in listed.stdout.splitlines()][:2] == [
        "01_baseline",
        "03_dropout",
    ]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    diverging = (*CASE, tmp_path, "--set", "optim.learning_rate=1e38")
    ended = run(*diverging, "--run-id", "ends")
    record = record_of(tmp_path / "ends")
    assert ended.returncode == 1
    assert re.fullmatch(r"step 2: (loss|grad_norm) is (nan|inf)", record["error"])
    assert record["status"] == "failed"
    assert (len(record["steps"]), record["nonfinite_steps"]) == (3, 1)
    assert status_of(tmp_path / "ends") == {"state": "failed", "step": 2, "exit_code": 1}

    ended = run(*diverging, "--run-id", "counts", "--set", "run.allow_nonfinite=true")
    record = record_of(tmp_path / "counts")
    assert ended.returncode == 0
    assert (record["status"], record["nonfinite_steps"]) == ("completed", 8)
    assert record["steps"][2]["loss"] is None or record["steps"][2]["grad_norm"] is None


def test_given_tokens_are_trained_on(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.full((1, 65), 7))
    given = (*CASE, tmp_path, "--set", f"data.tokens={tmp_path}/tokens.npy")
    fast = ("--set", "optim.learning_rate=1e-2", "--run-id", "sevens")
    assert run(*given, *fast).returncode == 0
    losses = [step["loss"] for step in record_of(tmp_path / "sevens")["steps"]]
    assert losses[9] < 0.1 < 4 < losses[0]  # one token for ever is soon learnt
    np.save(tmp_path / "tokens.npy", np.full((1, 64), 7))
    assert "holds int64 [1, 64], must be integers [B, 65]" in refused(*given)


def test_profile(tmp_path: Path) -> None:
    ended = run(*CASE, tmp_path, "--steps", "6", "--profile-steps", "3:5", "--run-id", "profiled")
    assert ended.returncode == 0
    assert list((tmp_path / "profiled" / "profile").rglob("*.xplane.pb"))
    record = record_of(tmp_path / "profiled")
    assert any("steps 3 to 4 ran under the profiler" in text for text in record["warnings"])


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGTERM, 42, "preempted"),
        (signal.SIGINT, 1, "failed"),
    ],
)
def test_an_interrupted_run_leaves_a_record_and_resumes_exactly(
    number: signal.Signals, code: int, status: str, tmp_path: Path
) -> None:
    steps = ("--set", "run.steps=400", "--set", "checkpoint.period=50", "--set", "eval.every=1")
    case = ("--case", "03_dropout", "--impl", "nnx", "--results-dir", tmp_path, *steps)
    with start(*case, "--run-id", "broken") as process:
        until_step(process, 120)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == code
    broken = record_of(tmp_path / "broken")
    assert broken["status"] == status
    assert broken["error"]

    resumed = run("--resume", "broken", "--results-dir", tmp_path)
    assert resumed.returncode == 0, resumed.stdout
    assert run(*case, "--run-id", "whole").returncode == 0
    broken, whole = (record_of(tmp_path / name) for name in ("broken", "whole"))
    assert [step["step"] for step in broken["steps"]] == list(range(400))
    assert [step["loss"] for step in broken["steps"]] == [step["loss"] for step in whole["steps"]]
    evaluations = [
        [(entry["step"], entry["loss"]) for entry in one["evals"]] for one in (broken, whole)
    ]
    assert evaluations[0] == evaluations[1]
    assert [step for step, _ in evaluations[0]] == list(range(400))  # none twice, none never
    assert broken["checkpoint"]["digest"] == whole["checkpoint"]["digest"]
    assert [attempt["status"] for attempt in broken["attempts"]] == [status]
    assert broken["checkpoint"]["restored_from"].startswith(str(tmp_path / "broken"))
    again = ("--resume", "broken", "--results-dir", tmp_path)
    assert run(*again).stdout.startswith("broken: is complete\nrecord: ")
    assert "the run is complete with run.steps=400" in refused(*again, "--steps", "401")
