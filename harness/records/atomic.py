"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write(path: str | os.PathLike[str], content: str | bytes, to_disk: bool = True) -> None:
    """Writes a file so that `path` holds either what it held before or the whole of `content`.

    Without `to_disk` a machine that loses its power may keep neither; with it, the call takes the
    milliseconds that the disk does. Raises OSError, and then leaves nothing behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if to_disk:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
