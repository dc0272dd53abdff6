"""Where checkpoints lie, and which folders are steps, told by names and files alone."""

import json
import os
from pathlib import Path
from typing import Any

from harness.records import storage
from harness.saving import foreign

STATE, METADATA = "state", "metadata"  # a step's two items: the arrays, and JSON about them
ARCHIVE = ".npz"  # of parameters alone, as numpy writes it


def place(path: str | Path) -> Any:
    """Where checkpoints lie: an absolute path on this machine, without `..`, or one in a bucket.

    Raises UserError as `storage.place` does.
    """
    found = storage.place(str(path))
    return Path(os.path.abspath(found)) if isinstance(found, Path) else found


def step_numbers(directory: Any) -> list[int]:
    """The steps in a folder, whole or not, without temporary folders and those named `N.bad`."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def is_step(path: Any) -> bool:
    """Whether a folder is one step, not a folder of steps."""
    return any((path / item).is_dir() for item in (STATE, METADATA)) or foreign.is_step(path)


def is_foreign(path: Any) -> bool:
    """Whether a step is another program's: ours have metadata beside the state, with a seal."""
    if (path / METADATA / METADATA).is_file():
        try:
            metadata = json.loads((path / METADATA / METADATA).read_text())
        except (OSError, ValueError, RecursionError):
            return False
        return not (isinstance(metadata, dict) and {"sha256", "digests"} & metadata.keys())
    if any((path / METADATA / name).exists() for name in foreign.OTHER_METADATA):
        return True
    return foreign.is_step(path) and not foreign.expects(path, METADATA)


def steps(path: str | Path) -> list[Any]:
    """The step at a path, or all steps of a folder, oldest first; UserError where there is none."""
    found = place(path)
    inside = [found] if is_step(found) else foreign.step_folders(found)
    if not inside:
        raise foreign.refuse(found)
    return inside


def require(path: str | Path) -> None:
    """Raises UserError for a path at which neither a step lies, good or set aside, nor an archive.

    What is wrong with one is told when it is restored.
    """
    with storage.errors_told(path):
        found = place(path)
        is_archive = found.name.endswith(ARCHIVE) and found.exists()
        inside = found.iterdir() if found.is_dir() else ()
        if not is_archive and not any(".bad" in one.name for one in inside):
            steps(path)
