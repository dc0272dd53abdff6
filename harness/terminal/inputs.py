"""Files of others, read without waiting for what never comes and without filling the memory."""

import errno
import os
import stat

from harness.terminal.text import size


def content(path: str | os.PathLike[str], most: int) -> bytes:
    """A file's bytes; raises OSError also where it is a pipe or a device, or holds more."""
    try:
        # A pipe that nobody writes to would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # a name that holds a zero
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        require_file(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        there = os.fstat(descriptor).st_size  # memory for what may be read is taken at once
        found = file.read(min(there, most) + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"holds more than {size(most)}", str(path))
    return found


def require_file(opened: int | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Raises OSError where what was opened, or lies at a path, is not a plain file."""
    mode = os.stat(opened).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
