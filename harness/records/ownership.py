"""Who may write into a run's folder: one process at a time, for as long as it lives."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from harness.records import storage
from harness.terminal.errors import UserError
from harness.terminal.text import safe

FILE = "owner.json"
_RENEW_SECONDS = 5.0
_EXPIRY_SECONDS = 30.0  # an owner that another machine sees no word of for so long is dead
_LENGTH = 500  # of the file
_SETTLE_SECONDS = 1.0  # of two that write their names at once, the later one stays


class Owner:
    """What gives one process at a time the right to write into a run's folder.

    On one machine the kernel's lock on `owner.json` decides at once, and goes when its holder
    dies. Between machines, and in a bucket, the owner's word in that file does, which it renews
    every few seconds: whoever comes later waits until it sees that happen, or no longer happen.
    """

    def __init__(self) -> None:
        self._home: Any = None
        self._is_taken = False
        self._claim: dict[str, Any] = {
            "token": secrets.token_hex(8),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "kernel": _kernel(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "renewed": 0,
        }
        self._descriptor: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def take(self, home: Any) -> None:
        """Takes a folder, which is made if need be; UserError when another process has it."""
        self._home, self._path = home, home / FILE
        with storage.errors_told(home):
            self._take()
        self._is_taken = True
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leaves the folder to whoever comes next."""
        if self._is_taken:
            self._ended.set()
            self._thread.join()
            with contextlib.suppress(UserError), storage.errors_told(self._home):
                if self._other() is None:
                    self._path.unlink()
                if not storage.is_remote(self._home):
                    self._home.rmdir()  # where nothing came of the run
        self._unlock()

    def check(self) -> None:
        """Raises UserError once another process has taken the run over."""
        if not self._is_taken:
            return
        with storage.errors_told(self._home):
            other = self._other()
        if other is not None:
            raise UserError(f"{self._home}: was taken over by {_named(other)}; this process ends")

    def _take(self) -> None:
        granted = self._lock()
        before = self._read()
        if granted is not None and (before is None or before.get("kernel") == _kernel()):
            if not granted:
                raise self._refusal(before or {})
            self._write()
            return
        if before is not None:
            self._wait_for_its_end(before)
        self._write()
        time.sleep(_SETTLE_SECONDS)
        other = self._other()
        if other is not None:
            raise self._refusal(other)

    def _lock(self) -> bool | None:
        """Whether the kernel grants the file; None where it cannot say."""
        if storage.is_remote(self._home):
            return None
        self._home.mkdir(parents=True, exist_ok=True)
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._unlock()
                return False if isinstance(error, BlockingIOError) else None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return True
            self._unlock()  # its holder removed it meanwhile

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wait_for_its_end(self, before: dict[str, Any]) -> None:
        deadline = time.monotonic() + _EXPIRY_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_RENEW_SECONDS / 5)
            if not self._path.exists():
                return
            now = self._read() or before  # or it is just being written
            if now != before:
                raise self._refusal(now)

    def _refusal(self, other: dict[str, Any]) -> UserError:
        return UserError(
            f"{self._home}: is being written by {_named(other)}; wait for its end, or give another"
            " --run-id"
        )

    def _other(self) -> dict[str, Any] | None:
        """Another process that wrote its name over this one's."""
        found = self._read()
        return None if found is None or found.get("token") == self._claim["token"] else found

    def _read(self) -> dict[str, Any] | None:
        """Whose name is in the file; None where none is, or it is just being written."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads(self._path.read_bytes())
            return found if isinstance(found, dict) else None
        return None

    def _write(self) -> None:
        content = json.dumps(self._claim).ljust(_LENGTH).encode() + b"\n"
        if storage.is_remote(self._path):
            self._path.write_bytes(content)
            return
        # In its place, where there is room for it also on a full disk: the lock is of the file.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, content, 0)
        finally:
            os.close(descriptor)

    def _keep(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            with contextlib.suppress(UserError), storage.errors_told(self._home):
                if self._other() is not None:
                    return
                self._claim["renewed"] += 1
                self._write()


def _kernel() -> str:
    """What tells a running kernel from every other one, as far as it can be told."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _named(claim: dict[str, Any]) -> str:
    told = [
        f"{key} {safe(str(claim[key]))}" for key in ("process", "host", "since") if key in claim
    ]
    return ", ".join(told) or "another process"
