"""What all commands share: how they read arguments and how they end on bad input."""

import argparse
import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from harness.terminal.errors import UserError
from harness.terminal.text import one_line

_BAD_INPUT = 2
# Imports and traces make objects that stay. Python by itself searches them for garbage 480 times
# before the first step, a tenth of a start whose programs are cached.
_OBJECTS_BEFORE_GARBAGE = 50_000


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError instead of printing the usage."""
        raise UserError(f"{message} (--help shows what is allowed)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses `--option=--`, of which argparse makes an empty list."""
        for word in args or ():
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word.removesuffix('=--')}: -- is no value")
        return super().parse_known_args(args, namespace)


def main(command: Callable[[list[str]], int]) -> NoReturn:
    """Ends the process with the command's exit code, or with one line and 2 on bad input."""
    _prepare_output()
    gc.set_threshold(_OBJECTS_BEFORE_GARBAGE)
    try:
        code = command(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        code = _told(error)
    except BrokenPipeError:  # whoever reads has read enough
        silence()
        code = 128 + signal.SIGPIPE
    except OSError as error:  # of a file that was named, of a folder that is gone, of a full disk
        silence()
        words = ": ".join(str(one) for one in (error.filename, error.strerror) if one)
        code = _told(UserError(words or one_line(error)))
    except UnicodeError as error:
        code = _told(UserError(f"a name that is not text: {error}"))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _told(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return _BAD_INPUT


def say(text: str, end: str = "\n") -> None:
    """Prints at once; once nobody listens any more, nothing, so that what goes on can end."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        silence()


def silence() -> None:
    """Prints nothing from here on; what is still buffered must not fail at the end again."""
    with contextlib.suppress(OSError, ValueError):  # of a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_output() -> None:
    """Lets any letter be printed in any encoding, and nothing into a file opened later.

    The first file that a process opens takes the number of a stream that the shell has closed.
    """
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
