"""Runs a workload's container as GKE's JobSet does, with processes of this machine for pods."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import commands

# XPK's rules: a pod that ends with one of these restarts the job, with another it fails it.
RESTARTED_CODES = {42, *range(127, 256)}

Pods = list[subprocess.Popen[bytes]]


@dataclass
class Job:
    """`command` is the container's, `environment` what its manifest adds."""

    command: Sequence[str]
    environment: Mapping[str, str]
    pods: int
    max_restarts: int
    grace_seconds: float
    output: Path  # a file for what the pods print
    lives: list[list[int]] = field(default_factory=list)  # all pods' exit codes, per start

    def run(self, *disturbances: Callable[[Pods], None]) -> bool:
        """Starts the pods, and again after a failure that allows it; whether the job succeeded.

        The first start is disturbed by the first of the disturbances, and so on.
        """
        while True:
            pods = self._start()
            try:
                if len(self.lives) < len(disturbances):
                    disturbances[len(self.lives)](pods)
                self.lives.append(self._end(pods))
            finally:
                _kill(pods)
            failed = set(self.lives[-1]) - {0}
            if not failed:
                return True
            if failed - RESTARTED_CODES or len(self.lives) > self.max_restarts:
                return False

    def _start(self) -> Pods:
        """Under a stand-in for what GKE sets on a slice's hosts, and for their TPUs."""
        python = Path(sys.executable).parent
        shared = {
            **commands.ENVIRONMENT,
            "PATH": f"{python}:{os.environ['PATH']}",
            **self.environment,
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_PORT": commands.free_port(),
            "TPU_WORKER_HOSTNAMES": ",".join(["127.0.0.1"] * self.pods),
        }
        with self.output.open("ab") as output:
            return [
                subprocess.Popen(
                    self.command,
                    env={**shared, "TPU_WORKER_ID": str(index)},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                for index in range(self.pods)
            ]

    def _end(self, pods: Pods) -> list[int]:
        """Waits for the pods; the first that fails takes the others with it."""
        while any(pod.poll() is None for pod in pods) and not any(pod.poll() for pod in pods):
            time.sleep(0.05)
        deadline = time.monotonic() + self.grace_seconds
        for pod in pods:
            pod.send_signal(signal.SIGTERM)
        while any(pod.poll() is None for pod in pods) and time.monotonic() < deadline:
            time.sleep(0.05)
        _kill(pods)
        return [128 - code if code < 0 else code for code in (pod.wait() for pod in pods)]


def _kill(pods: Pods) -> None:
    """With all that runs in them, as the end of a container does."""
    for pod in pods:
        if pod.poll() is None:
            os.killpg(pod.pid, signal.SIGKILL)


def until_step(run: Path, step: int, seconds: float = 120) -> None:
    """Waits until the run in this folder has done a step."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            status = json.loads((run / "status.json").read_text())
            if status["state"] == "running" and (status["step"] or 0) >= step:
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{run} did not reach step {step}")
