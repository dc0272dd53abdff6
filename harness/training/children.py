"""Runs in processes of their own, so that none sees another's memory, programs or failures."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from harness.records import storage
from harness.terminal import cli
from harness.terminal.errors import UserError
from harness.training.devices import Processes, coordinator_port

_PORTS = range(1024, 65536)


@dataclass(frozen=True)
class Ended:
    """How a run ended; where its record lies, None in all processes but the first.

    warnings: the lines that were kept back.
    """

    code: int
    record: Any
    warnings: tuple[str, ...] = ()


class Children:
    """Runs the command with the arguments that this process was given, and others after them.

    Where several processes train together, each starts the same children in the same order, and
    each child has a coordinator's port of its own: one must not meet the coordinator of the one
    before, which may not have ended everywhere yet.
    """

    def __init__(self, argv: Sequence[str], processes: Processes | None) -> None:
        self._argv = tuple(argv)
        self._processes = processes
        self._started = 0
        self.stopped = False  # whether this process was asked to stop, and a child with it

    def run(self, *last: str, keeps_warnings: bool = False) -> Ended:
        """Runs one child and prints what it prints; it is sent the signals that this one gets.

        keeps_warnings: its warnings are not printed, but given back.
        """
        together, environment = self._coordinator()
        self._started += 1
        safe_path = ["-P"] if sys.flags.safe_path else []
        command = [sys.executable, *safe_path, "-m", "harness.run", *self._argv, *together, *last]
        place = None
        warnings = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        ) as child:

            def pass_on(number: int, frame: FrameType | None) -> None:
                self.stopped = True
                child.send_signal(number)

            previous = signal.signal(signal.SIGTERM, pass_on)
            assert child.stdout is not None
            for line in child.stdout:
                if keeps_warnings and line.startswith("warning: "):
                    warnings.append(line.rstrip("\n"))
                    continue
                cli.say(line, end="")
                if line.startswith("record: "):
                    place = storage.place(line.removeprefix("record: ").rstrip("\n"))
            child.wait()
            signal.signal(signal.SIGTERM, previous)
        code = child.returncode
        code = code if code >= 0 else 128 - code  # as a shell tells a signal
        return Ended(code, place, tuple(warnings))

    def _coordinator(self) -> tuple[list[str], dict[str, str]]:
        """Arguments and environment that tell the next child of a port that no other one has."""
        if self._processes is None:
            return [], {"JAX_COORDINATOR_PORT": self._port(coordinator_port())}
        host, _, port = self._processes.coordinator.rpartition(":")
        return ["--coordinator", f"{host}:{self._port(port)}"], {}

    def _port(self, first: str) -> str:
        if not (first.isdecimal() and int(first) in _PORTS):
            raise UserError(f"coordinator's port {first!r}: must lie in [1024, 65536)")
        return str(_PORTS[(int(first) - _PORTS.start + self._started) % len(_PORTS)])
