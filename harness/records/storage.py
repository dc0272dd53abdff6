"""Where results are kept: a folder of this machine, or one in a bucket such as gs://bucket/runs."""

import atexit
import importlib.util
import itertools
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.terminal import inputs, installing
from harness.terminal.errors import UserError

_UPLOAD_SECONDS = 5
_ATTEMPTS = 3
_LAST = ("record.json", "status.json")  # once these are there, all they speak of is


def place(text: str) -> Any:
    """A path of this machine or in a bucket, with the methods of pathlib.

    Raises UserError for a store that is not known, or whose extra is not installed.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme != "gs" or not rest.strip("/"):
        raise UserError(f"{text}: must be a folder or gs://BUCKET/FOLDER")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"{text}: needs gcsfs: {installing.command('gcs')}")
    from etils import epath

    # What fails is told in one line; its client would log pages first.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
    logging.getLogger("gcsfs").propagate = False
    return epath.Path(text)


def is_remote(path: Any) -> bool:
    """Whether a path lies in a bucket."""
    return "://" in str(path)


@contextmanager
def errors_told(where: Any) -> Iterator[None]:
    """Raises UserError for what the storage of `where` cannot do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the clients of buckets raise errors of many kinds
        if not (is_remote(where) or isinstance(error, OSError)):
            raise
        raise UserError(f"{where}: {_reason(error, where)}") from error


def _reason(error: Exception, where: Any) -> str:
    if isinstance(error, OSError) and error.strerror:
        is_there = error.filename is None or str(error.filename) == str(where)
        return error.strerror if is_there else f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())[:300] or type(error).__name__


def content(path: Any, most: int) -> bytes:
    """What a file holds; raises OSError for one of this machine that holds more than `most`."""
    return bytes(path.read_bytes()) if is_remote(path) else inputs.content(path, most)


def local_copy(path: Any) -> Path:
    """The file itself, or what a bucket holds of it now; the copy goes when the process ends."""
    if not is_remote(path):
        return Path(path)
    folder = tempfile.TemporaryDirectory(prefix="harness-")
    atexit.register(folder.cleanup)
    copy = Path(folder.name) / path.name
    with errors_told(path):
        copy.write_bytes(path.read_bytes())
    return copy


class Mirror:
    """Keeps a copy of a growing folder in a bucket.

    Nothing can be appended to an object, and one object takes no more than one write a second: so
    changed files, which are small, are sent whole, every few seconds and by a thread of its own.
    Training never waits for them but in `sync`.
    """

    def __init__(self, folder: Path, remote: Any, check: Callable[[], None]) -> None:
        """Check: raises UserError when nothing more may be sent."""
        self._folder = folder
        self._remote = remote
        self._check = check
        self._sent: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, daemon=True)
        self._thread.start()

    def sync(self) -> None:
        """Sends what has changed; raises UserError when that fails again and again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._lock, errors_told(self._remote):
                    self._send()
                return
            except UserError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(1)

    def close(self) -> None:
        """Ends the thread and sends the rest."""
        self._ended.set()
        self._thread.join()
        self.sync()

    def _keep_up(self) -> None:
        while not self._ended.wait(_UPLOAD_SECONDS):
            # What fails is tried again the next time; `sync` says so when it never works.
            with suppress(UserError), self._lock, errors_told(self._remote):
                self._send()

    def _send(self) -> None:
        self._check()
        last = [self._folder / name for name in _LAST]
        # Read before the others and sent after them: they go on growing meanwhile, and what speaks
        # of them must not know more than a kill in between leaves there.
        telling = [*self._changed(last)]
        rest = sorted({*self._folder.rglob("*")} - {*last}, key=lambda path: path.name)
        for path, version, held in itertools.chain(self._changed(rest), telling):
            target = self._remote / path.relative_to(self._folder).as_posix()
            if not is_remote(target):  # a bucket has no folders, and must not come from a slip
                target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(held)
            self._sent[path] = version

    def _changed(self, paths: Iterable[Path]) -> Iterator[tuple[Path, tuple[int, int], bytes]]:
        """Those of the files that were not sent as they are now, each with what it holds."""
        for path in paths:
            if path.is_file() and not path.name.startswith("."):
                state = path.stat()
                version = (state.st_mtime_ns, state.st_size)
                if self._sent.get(path) != version:
                    yield path, version, path.read_bytes()
