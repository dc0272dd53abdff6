"""Runs the project's commands as a user does, in processes of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.records import record, sealing

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),  # these tests' own checkout, wherever it runs
    "XDG_CACHE_HOME": os.environ["HARNESS_TESTS_CACHE"],
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}


def command(*arguments: str | Path, module: str = "harness.run") -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(
    *arguments: str | Path, module: str = "harness.run", seconds: float = 240
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, module=module),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start_pair(*arguments: str | Path) -> list[subprocess.Popen[str]]:
    """Two processes that are told of each other, as the hosts of a slice are."""
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process-id")
    return [start(*arguments, *together, str(index)) for index in range(2)]


def record_of(folder: Path) -> dict[str, Any]:
    return record.read(folder / "record.json")


def status_of(folder: Path) -> dict[str, Any]:
    return sealing.opened(json.loads((folder / "status.json").read_text()))


def until_step(process: subprocess.Popen[str], step: int) -> None:
    """Waits for the line of a step; what the process prints after it is still to be read."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"completed step: {step},"):
            return
    raise AssertionError(process.communicate()[1])
