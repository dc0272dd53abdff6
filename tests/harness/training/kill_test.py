"""kill -9 at random moments, and resuming: the run ends as if nothing had happened."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import commands
import pytest

from harness.records import figures

STEPS = 24
EVERY = ("--size", "tiny", "--steps", str(STEPS), "--set", "checkpoint.period=3")
CASE = ("--case", "08_checkpoint_async_true", *EVERY, "--set", "model.dropout_rate=0.1")
# Over stages; after two good steps its scale doubles, and gradients soon overflow again.
PIPELINE = (
    *("--case", "30_pipeline", *EVERY, "--set", "optim.initial_loss_scale=4e6"),
    *("--set", "optim.loss_scale_window=2"),
)


@pytest.mark.parametrize(
    ("impl", "case", "kills"),
    [
        ("nnx", CASE, 2),
        pytest.param("linen", CASE, 100, marks=pytest.mark.faults),
        pytest.param("nnx", CASE, 100, marks=pytest.mark.faults),
        pytest.param("nnx", PIPELINE, 40, marks=pytest.mark.faults, id="pipeline"),
    ],
)
def test_a_killed_run_resumes_to_the_same_end(
    impl: str, case: tuple[str, ...], kills: int, tmp_path: Path
) -> None:
    whole = commands.run(*case, "--impl", impl, "--results-dir", tmp_path, "--run-id", "whole")
    assert whole.returncode == 0, whole.stderr
    undisturbed = commands.record_of(tmp_path / "whole")
    assert (_overflows(undisturbed) > 3) == (case is PIPELINE)
    chance = random.Random(f"{impl} {kills}")
    number = done = 0
    while done < kills:
        folder = tmp_path / str(number)
        newest = None
        while not _runs_to_its_end(case, impl, folder, chance, done < kills):
            done += 1
            assert newest is None or newest in _committed(folder), "a committed step is lost"
            newest = max(_committed(folder), default=None)
        record = commands.record_of(folder)
        assert not list(folder.glob("checkpoints/*.bad*"))
        expected = None if newest is None else str(folder / "checkpoints" / str(newest))
        assert record["checkpoint"]["restored_from"] == expected
        assert record["checkpoint"]["digest"] == undisturbed["checkpoint"]["digest"]
        assert _trajectory(record) == _trajectory(undisturbed)
        saves = [save["step"] for save in record["checkpoint"]["saves"]]
        assert {*saves} == {save["step"] for save in undisturbed["checkpoint"]["saves"]}
        assert not any("damaged" in one or "of what" in one for one in record["warnings"])
        shutil.rmtree(folder)
        number += 1


@pytest.mark.faults
@pytest.mark.parametrize("processes", [1, 2])
def test_of_two_starts_of_one_name_one_goes_on_undamaged(processes: int, tmp_path: Path) -> None:
    case = (*CASE, "--impl", "nnx", "--devices", "2", "--results-dir", tmp_path, "--run-id")

    def started(name: str) -> list[subprocess.Popen[str]]:
        return [commands.start(*case, name)] if processes == 1 else commands.start_pair(*case, name)

    def ended(start: list[subprocess.Popen[str]]) -> tuple[list[int], list[tuple[str, str]]]:
        said = [process.communicate(timeout=240) for process in start]
        return [process.returncode for process in start], said

    codes, said = ended(started("whole"))
    assert codes == [0] * processes, said
    undisturbed = commands.record_of(tmp_path / "whole")
    chance = random.Random("double")
    for number in range(20):
        name = f"run-{number}"
        first = started(name)
        time.sleep(chance.uniform(0, 8 * processes))
        (codes, said), (others, also) = ended(started(name)), ended(first)
        # The one that came too late is refused, or finds the run complete.
        told = any("is complete" in output for output, _ in (*said, *also))
        late = [0 if told else 2] * processes
        assert sorted((codes, others)) == [[0] * processes, late], (said, also)
        refused = [complaint for _, complaint in (said if codes == late else also)]
        assert told or all(one.count("\n") == 1 and "is being written by" in one for one in refused)
        record = commands.record_of(tmp_path / name)
        assert not record["attempts"]
        assert _trajectory(record) == _trajectory(undisturbed)
        assert record["checkpoint"]["digest"] == undisturbed["checkpoint"]["digest"]
        shutil.rmtree(tmp_path / name)


@pytest.mark.faults
def test_a_run_that_is_stopped_now_and_then_has_clean_samples(tmp_path: Path) -> None:
    chance = random.Random("stops")
    steps = ("--steps", "400", "--set", "checkpoint.enabled=false")
    child = commands.start(
        *CASE, "--impl", "nnx", "--results-dir", tmp_path, "--run-id", "held", *steps
    )
    with child:
        assert child.stdout is not None
        stops = 0
        for line in child.stdout:
            if line.startswith("completed step:") and stops < 20 and chance.random() < 0.1:
                stops += 1
                child.send_signal(signal.SIGSTOP)
                time.sleep(chance.uniform(0.2, 1))
                child.send_signal(signal.SIGCONT)
    record = commands.record_of(tmp_path / "held")
    assert (record["status"], stops) == ("completed", 20)
    flagged = [entry for entry in record["steps"] if entry.get("stopped")]
    assert 20 <= len(flagged) <= 40
    samples = figures.step_samples(record)
    assert len(samples) == record["timing"]["step_seconds"]["samples"]
    assert max(samples) < 0.2


def _runs_to_its_end(
    case: tuple[str, ...], impl: str, folder: Path, chance: random.Random, kill: bool
) -> bool:
    """Starts or resumes a run; kills it at a random moment, which may be after its end."""
    where = ("--results-dir", folder.parent)
    if (folder / "record.json").exists():
        child = commands.start("--resume", folder.name, *where)
    else:
        child = commands.start(*case, "--impl", impl, *where, "--run-id", folder.name)
    with child:
        if kill:
            _wait_for_a_moment(child, chance)
            child.kill()
        output, complaint = child.communicate()
    assert child.returncode in (0, -signal.SIGKILL), output + complaint
    has_record = (folder / "record.json").exists()
    return has_record and commands.record_of(folder)["status"] == "completed"


def _wait_for_a_moment(child: subprocess.Popen[str], chance: random.Random) -> None:
    """Until a step's line comes and a little longer, or, one time in four, any time from start."""
    if chance.random() < 0.25:
        time.sleep(chance.uniform(0, 3))
        return
    step = chance.randrange(STEPS)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("completed step:") and int(line.split()[2].rstrip(",")) >= step:
            time.sleep(chance.uniform(0, 0.1))
            return


def _committed(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdecimal()}


def _overflows(record: dict[str, Any]) -> int:
    return sum(step.get("skipped", False) for step in record["steps"])


def _trajectory(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("step", "loss", "grad_norm", "learning_rate", "total_weights", "loss_scale", "skipped")
    return [tuple(step.get(name) for name in names) for step in record["steps"]]
