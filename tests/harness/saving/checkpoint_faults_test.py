"""Faults at random places and moments: always detected or harmless, never another trajectory."""

import gc
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoint_states import CASE, abstract_state, bits, make_state

from harness.cases.settings import Checkpoint
from harness.saving.checkpointer import Checkpointer
from harness.saving.restoring import Restored

STEPS = (0, 5)
_HELPERS = Path(__file__).parents[2] / "helpers"
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_HELPERS.parents[1]), "XLA_FLAGS": ""}


def _checkpointer(directory: Path) -> Checkpointer:
    checkpointer = Checkpointer(directory, Checkpoint(), {"case": CASE}, timeout_seconds=60)
    checkpointer.open(resume=True)
    return checkpointer


def _resume(directory: Path, devices: int = 8) -> Restored:
    restored = _checkpointer(directory).resume(abstract_state(devices))
    assert restored is not None
    return restored


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpointer = _checkpointer(directory)
    for step in STEPS:
        checkpointer.save(step, make_state(step))
    checkpointer.finish()
    return directory


def _saver(directory: Path, mode: str) -> list[str]:
    return [sys.executable, str(_HELPERS / "checkpoint_saver.py"), str(directory), mode]


def _flip(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def _truncate(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def _remove(file: Path, chance: random.Random) -> None:
    file.unlink()


@pytest.mark.parametrize("samples", [20, pytest.param(200, marks=pytest.mark.faults)])
def test_no_damaged_file_changes_what_is_restored(
    saved: Path, tmp_path: Path, samples: int, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(samples)
    fallbacks = 0
    files = [path.relative_to(saved) for path in saved.rglob("*") if path.is_file()]
    names = sorted(files, key=lambda name: (name.parts[0] != "5", name))  # the newest step first
    for sample in range(samples):
        directory = Path(shutil.copytree(saved, tmp_path / str(sample)))
        name, damage = names[sample % len(names)], chance.choice([_flip, _flip, _truncate, _remove])
        damage(directory / name, chance)
        restored = _resume(directory)
        told = f"{damage.__name__} {name}: {restored.warnings}"
        assert restored.step is not None, told
        assert bits(restored.state) == bits(make_state(restored.step)), told
        was_set_aside = (directory / "5.bad").exists()
        assert (restored.step, bool(restored.warnings)) == (
            (0, True) if was_set_aside else (5, False)
        ), told
        fallbacks += was_set_aside
        _goes_on(directory, restored.step)
        shutil.rmtree(directory)
    assert 0 < fallbacks < samples
    gc.collect()
    assert capfd.readouterr() == ("", "")


def _goes_on(directory: Path, step: int) -> None:
    checkpointer = _checkpointer(directory)
    checkpointer.save(step + 1, make_state(step + 1))
    checkpointer.finish()
    assert _resume(directory).step == step + 1


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.faults)])
def test_kill_9_while_saving_loses_no_committed_step(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    command = _saver(tmp_path, "async")
    committed = -1
    for _ in range(kills):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline().split() == ["begins", "after", str(committed)]
            for _ in range(chance.randrange(1, 6)):
                committed = int(child.stdout.readline().split()[1])
            time.sleep(chance.uniform(0, 0.3))
            child.kill()
            for line in child.stdout:
                committed = int(line.split()[1])
        restored = _resume(tmp_path, devices=1)
        assert restored.warnings == ()
        assert restored.step in (committed, committed + 1)  # killed before it could say so
        assert bits(restored.state) == bits(make_state(restored.step))
        committed = restored.step


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_disk_that_fills_up_is_one_line(tmp_path: Path, mode: str) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs a privilege")
    try:
        done = subprocess.run(
            _saver(tmp_path, mode), capture_output=True, text=True, env=_ENVIRONMENT, timeout=120
        )
        *committed, complaint = done.stdout.splitlines()[1:]
        assert committed
        failed = len(committed)
        assert complaint.startswith(f"{tmp_path}/{failed}: not ")
        assert complaint.endswith(": No space left on device")
        assert done.stderr == ""
        restored = _resume(tmp_path, devices=1)
        assert restored.step == failed - 1
        assert bits(restored.state) == bits(make_state(restored.step))
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
