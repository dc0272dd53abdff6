"""What a folder holds after each thing that is done to its files: what a kill there would leave."""

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_STEPS = "checkpoints"  # the folder of those saved; once one is committed, its files stay
# Functions of os that change a file at once, and which of their arguments then is another one.
_CHANGES = {"rename": 1, "replace": 1, "truncate": 0, "unlink": 0}


class Moments:
    """Copies of a run's folder as it was after each change, in their order."""

    def __init__(self, folder: Path, kept: Path) -> None:
        """Folder: the run's; kept: where each copy is put, in a results folder of its own."""
        self._folder = folder
        self._kept = kept
        self.lock = threading.RLock()  # Orbax commits in a thread of its own
        self.folders: list[Path] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Meanwhile each change that this process makes is kept."""
        with pytest.MonkeyPatch.context() as patch:
            for name, place in _CHANGES.items():
                patch.setattr(os, name, self._changing(getattr(os, name), place))
            patch.setattr(io, "open", self._opening(io.open))
            yield

    def keep(self, change: str) -> None:
        """Copies the folder as it is now."""
        copy = self._kept / f"{len(self.folders):03} {change}" / self._folder.name
        copy.mkdir(parents=True)
        for path in self._folder.iterdir():
            if path.is_file():
                shutil.copy(path, copy)
        for step in (self._folder / _STEPS).glob("*"):
            if step.name.isdecimal():
                shutil.copytree(step, copy / _STEPS / step.name, copy_function=os.link)
        self.folders.append(copy)

    def _concern(self, file: Any) -> bool:
        """Whether it is one of the run's files, other than its log, or a step that was saved."""
        if not isinstance(file, str | os.PathLike):
            return False
        path = Path(os.fsdecode(file))
        is_step = path.parent == self._folder / _STEPS and path.name.isdecimal()
        return is_step or (path.parent == self._folder and not path.name.startswith("log."))

    def _changing(self, function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.lock:
                outcome = function(*arguments, **options)
                if self._concern(arguments[place]):
                    self.keep(f"{function.__name__} {Path(arguments[place]).name}")
            return outcome

        return call

    def _opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not {*mode} & {*"wax"} or not self._concern(file):
                return function(file, mode, *arguments, **options)
            with self.lock:
                raw = _Watched(file, mode.replace("b", ""), self)
                self.keep(f"open {Path(file).name}")
            return io.BufferedWriter(raw)

        return call


class _Watched(io.FileIO):
    """A file of which each write comes in two parts."""

    def __init__(self, path: Path, mode: str, moments: Moments) -> None:
        super().__init__(path, mode)
        self._moments = moments
        self._name = path.name

    def write(self, content: Any) -> int:
        whole, half, done = memoryview(content), len(content) // 2, 0
        with self._moments.lock:
            for part in (whole[:half], whole[half:]):
                done += super().write(part)
                self._moments.keep(f"write {done} of {len(whole)} to {self._name}")
        return done
