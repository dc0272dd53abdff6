"""A run that goes on with other devices is the one that it was: in batch, rates and losses."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from commands import record_of

from harness import run as command
from harness.cases import reading
from harness.records import record
from harness.terminal.errors import UserError
from harness.training import devices, going_on
from harness.training.parallel import mesh
from harness.training.watcher import Watcher

Command = Callable[..., int]
TWINS = ("--twins", "toy_family", "--impl", "nnx_")
CASE = ("--case", "toy.yaml", "--size", "tiny", *TWINS, "--steps", "9")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs the command in this process, on some of its devices; it may be stopped after a step."""
    last: list[int] = []
    finished = Watcher.step

    def step(self: Watcher, entry: dict[str, Any]) -> None:
        finished(self, entry)
        if entry["step"] in last:
            os.kill(os.getpid(), signal.SIGTERM)

    def run(*arguments: str, on: int, stop_after: int | None = None) -> int:
        last[:] = [] if stop_after is None else [stop_after]
        monkeypatch.setattr(devices, "prepare", lambda *_: jax.devices()[:on])
        return command.main([*arguments, "--results-dir", str(tmp_path)])

    monkeypatch.setattr(Watcher, "step", step)
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text("data:\n  sequence_length: 16\n")
    return run


def test_a_run_stopped_on_eight_devices_goes_on_with_four_and_then_one(
    trained: Command, tmp_path: Path
) -> None:
    assert trained(*CASE, "--run-id", "whole", on=8) == 0
    assert trained(*CASE, "--run-id", "moved", on=8, stop_after=1) == 42
    assert trained("--resume", "moved", on=4, stop_after=5) == 42
    assert trained(*CASE, "--run-id", "moved", on=1) == 0
    whole, moved = (record_of(tmp_path / name) for name in ("whole", "moved"))
    for key, tolerance in (("loss", 1e-5), ("learning_rate", 0), ("total_weights", 0)):
        expected = [entry[key] for entry in whole["steps"]]
        assert [entry[key] for entry in moved["steps"]] == pytest.approx(expected, rel=tolerance)
    assert moved["case"] == whole["case"]
    assert moved["case"]["global_batch"] == 8
    assert [one["devices"] for one in moved["attempts"]] == [8, 4]
    assert moved["environment"]["device_count"] == 1
    begun = "begun on 8 x cpu and 4 x cpu, goes on with 1 x cpu: the batch stays 8 sequences"
    assert any(one.startswith(begun) for one in moved["warnings"])
    # The last start took over at step 7 or so: only what is its own is timed.
    first = int(Path(moved["checkpoint"]["restored_from"]).name) + 1
    assert moved["timing"]["step_seconds"]["samples"] == max(0, 9 - first - 3)


def test_a_run_that_goes_on_is_not_started_again(
    trained: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finished, refused = Watcher.step, []

    def step(self: Watcher, entry: dict[str, Any]) -> None:
        finished(self, entry)
        for arguments in ((*CASE, "--run-id", "one"), ("--resume", "one")):
            with pytest.raises(UserError) as error:
                trained(*arguments, on=1)
            refused.append(str(error.value))

    monkeypatch.setattr(Watcher, "step", step)
    assert trained(*CASE[:-1], "3", "--run-id", "one", on=1) == 0
    assert len(refused) == 6
    assert all(f"one: is being written by process {os.getpid()}, host" in one for one in refused)
    record = record_of(tmp_path / "one")
    assert (record["status"], len(record["steps"]), record["attempts"]) == ("completed", 3, [])
    assert not (tmp_path / "one" / "owner.json").exists()


def test_a_run_whose_record_is_lost_goes_on_as_the_run_that_it_was(
    trained: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert trained(*CASE, "--run-id", "lost", on=1, stop_after=3) == 42
    path = tmp_path / "lost" / "record.json"
    stopped = record_of(path.parent)
    path.unlink()
    metrics = tmp_path / "lost" / "metrics.jsonl"
    lines = metrics.read_bytes()
    metrics.write_bytes(b"".join(lines.splitlines(keepends=True)[1:]))
    assert trained("--resume", "lost", on=1) == 2
    last = stopped["steps"][-1]["step"]
    told = "lost: neither record.json nor metrics.jsonl has step 0 of those up to checkpoint"
    assert f"{told} {last}" in capsys.readouterr().out
    assert [entry["step"] for entry in record_of(path.parent)["steps"]] == [*range(1, last + 1)]

    metrics.write_bytes(lines)
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert trained("--resume", "lost", on=1) == 0
    record = record_of(path.parent)
    assert record["status"] == "completed"
    assert record["steps"][: last + 1] == stopped["steps"]
    assert [entry["step"] for entry in record["steps"]] == [*range(9)]
    assert record["checkpoint"]["saves"][:-1] == stopped["checkpoint"]["saves"]
    assert record["case"] == stopped["case"]
    (told,) = (one for one in record["warnings"] if one.startswith("of what earlier starts left"))
    assert told.endswith("kept as record.json.bad: made again from the newest checkpoint")
    assert record["files"]


def test_a_run_that_was_stopped_for_a_while_has_no_sample_of_it(
    trained: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finished = Watcher.step

    def step(self: Watcher, entry: dict[str, Any]) -> None:
        finished(self, entry)
        if entry["step"] == 5:
            with subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -CONT {os.getpid()}"]):
                os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(Watcher, "step", step)
    assert trained(*CASE, "--run-id", "held", on=1) == 0
    record = record_of(tmp_path / "held")
    stopped = [entry["step"] for entry in record["steps"] if entry.get("stopped")]
    assert stopped == [6, 7]
    assert record["steps"][6]["step_seconds"] > 0.3
    assert record["timing"]["step_seconds"]["samples"] == 4
    assert record["timing"]["step_seconds"]["p90"] < 0.3
    assert any("the process did not run for a while" in one for one in record["warnings"])


def test_more_steps_from_a_checkpoint_keep_batch_and_rates_and_say_so(
    trained: Command, tmp_path: Path
) -> None:
    case = (*CASE[:-1], "4")
    assert trained(*case, "--run-id", "short", on=8) == 0
    place = str(tmp_path / "short" / "checkpoints")
    longer = (*CASE[:-1], "6", "--restore", place)
    assert trained(*longer, "--run-id", "longer", on=4) == 0
    longer_record, short = record_of(tmp_path / "longer"), record_of(tmp_path / "short")
    assert (longer_record["case"]["global_batch"], longer_record["case"]["schedule_steps"]) == (
        8,
        4,
    )
    final = short["steps"][-1]["learning_rate"]
    assert [entry["learning_rate"] for entry in longer_record["steps"]] == [final, final]
    told = "\n".join(longer_record["warnings"])
    assert "begun on 8 x cpu, goes on with 4 x cpu: the batch stays 8 sequences a step" in told
    assert "run.steps=6: the learning rates stay those of the 4 steps" in told
    # Another experiment takes the parameters alone, and has a batch and rates of its own.
    rate = ("--set", "optim.learning_rate=1e-3")
    assert trained(*longer, *rate, "--run-id", "other", on=8) == 0
    record = record_of(tmp_path / "other")
    assert record["steps"][0]["step"] == 0
    assert (record["case"]["global_batch"], record["case"]["schedule_steps"]) == (8, 6)
    told = "\n".join(record["warnings"])
    assert "/short/checkpoints/3: of another case, toy (optim.learning_rate=3e-05" in told
    assert "only its parameters were taken: all else begins anew, at step 0" in told
    (taken,) = (entry["loss"] for entry in longer_record["steps"] if entry["step"] == 4)
    assert record["steps"][0]["loss"] == pytest.approx(taken, rel=1e-5)


def grid_of(count: int) -> mesh.Grid:
    return mesh.make(reading.load("01_baseline", "tiny"), jax.devices()[:count])


def test_what_devices_cannot_share_is_refused_in_one_line() -> None:
    case = reading.load("01_baseline", "tiny")
    begun = reading.described(case, "tiny", "reference")
    with pytest.raises(UserError, match=r"^--devices 4: .* 2 sequences .* 4 devices cannot share"):
        going_on.as_begun(case, begun | {"global_batch": 2}, 2, grid_of(4))


def test_an_older_record_tells_its_batch_by_its_devices() -> None:
    case = reading.load("01_baseline", "tiny", ["data.per_device_batch=2"])
    begun = reading.described(case, "tiny", "reference")
    kept = going_on.as_begun(case, begun, 8, grid_of(4))
    assert (kept.global_batch, kept.schedule_steps) == (16, case.run.steps)
    assert reading.case_hash(kept, "tiny", "reference") == begun["hash"]


def test_what_restore_takes_is_only_asked_of_a_checkpoint() -> None:
    with pytest.raises(UserError, match="--restore-what all: only with --restore"):
        command.main([*CASE, "--restore-what", "all"])


def test_the_devices_that_a_record_needs_are_those_of_its_sizes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "record.json"
    path.parent.mkdir()
    assert going_on.fewest_devices(tmp_path, "run") == 1
    for name, devices_ in (("01_baseline", 1), ("30_pipeline", 8)):
        case = reading.load(name, "tiny")
        about = {"case": reading.described(case, "tiny", "reference"), "error": "it broke"}
        made = record.blank("run", "failed", size="tiny", recipe="reference") | about
        record.write(path, made)
        assert going_on.fewest_devices(tmp_path, "run") == devices_
