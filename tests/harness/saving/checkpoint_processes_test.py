"""Checkpoints of two processes that train together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from checkpoint_states import abstract_state, bits, make_state

from harness.saving import digest, restoring


def _two_processes(directory: Path, *steps: int) -> list[Any]:
    """What each process found in the folder before it saved the steps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parents[2] / "helpers"
    script = str(here / "checkpoint_process.py")
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1]), "XLA_FLAGS": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(port), str(index), str(directory), *map(str, steps)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def _digest(step: int) -> str:
    return digest.combined(digest.array_digests(make_state(step)))


def test_two_processes_save_restore_and_agree_on_damage(tmp_path: Path) -> None:
    assert _two_processes(tmp_path, 0, 5) == [None, None]
    case = json.loads((tmp_path / "5" / "metadata" / "metadata").read_text())["case"]
    alone = restoring.restore(tmp_path, abstract_state(2), case)
    assert bits(alone.state) == bits(make_state(5))

    # What lies under process_1 is read by that process alone.
    files = (tmp_path / "5" / "state" / "ocdbt.process_1").rglob("d/*")
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    found = _two_processes(tmp_path, 1)
    assert [(step, state) for step, state, _ in found] == [(0, _digest(0))] * 2
    assert all("cannot read" in warnings[0] for _, _, warnings in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "5.bad"]
    assert [(step, state) for step, state, _ in _two_processes(tmp_path)] == [(1, _digest(1))] * 2
