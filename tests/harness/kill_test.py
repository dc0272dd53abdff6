"""kill -9 at random moments, and resuming: the run ends as if nothing had happened."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pytest

from models import IMPLEMENTATIONS

STEPS = 24
CASE = (
    *("--case", "08_checkpoint_async_true", "--size", "tiny", "--steps", str(STEPS)),
    *("--set", "checkpoint.period=3", "--set", "model.dropout_rate=0.1"),
)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """The record of a run that nobody disturbs."""
    results = tmp_path_factory.mktemp("undisturbed")
    arguments = ("--impl", request.param, "--results-dir", results, "--run-id", "whole")
    done = commands.run(*CASE, *arguments)
    assert done.returncode == 0, done.stderr
    yield commands.record_of(results / "whole")


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.faults)])
def test_a_killed_run_resumes_to_the_same_end(
    undisturbed: dict[str, Any], tmp_path: Path, kills: int
) -> None:
    chance = random.Random(f"{undisturbed['impl']} {kills}")
    number = done = 0
    while done < kills:
        folder = tmp_path / str(number)
        newest: int | None = None
        while not _runs_to_its_end(undisturbed["impl"], folder, chance, done < kills):
            done += 1
            committed = _committed(folder)
            assert newest is None or newest in committed, "a committed step is lost"
            newest = max(committed, default=None)
        record = commands.record_of(folder)
        assert not list(folder.glob("checkpoints/*.bad*"))
        if newest is not None:
            assert record["checkpoint"]["restored_from"] == str(
                folder / "checkpoints" / f"{newest}"
            )
        assert record["checkpoint"]["digest"] == undisturbed["checkpoint"]["digest"]
        assert _trajectory(record) == _trajectory(undisturbed)
        shutil.rmtree(folder)
        number += 1


def _runs_to_its_end(impl: str, folder: Path, chance: random.Random, kill: bool) -> bool:
    """Starts or resumes a run; kills it at a random moment, unless it ends before that."""
    where = ("--results-dir", folder.parent)
    if (folder / "record.json").exists():
        child = commands.start("--resume", folder.name, *where)
    else:
        child = commands.start(*CASE, "--impl", impl, *where, "--run-id", folder.name)
    with child:
        if kill:
            _wait_for_a_moment(child, chance)
            child.kill()
        output, complaint = child.communicate()
    assert child.returncode in (0, -9), output + complaint
    return child.returncode == 0


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


def _trajectory(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("step", "loss", "grad_norm", "learning_rate", "total_weights")
    return [tuple(step[name] for name in names) for step in record["steps"]]
