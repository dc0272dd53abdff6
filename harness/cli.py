"""What all commands share: how they read arguments and how they end on bad input."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NoReturn

import harness
from harness.errors import UserError
from harness.records.record import RecordError

_HERE = Path(__file__).resolve().parent


class _OwnModels:
    """Finds the `models` that came with this package."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(_HERE.parent)]) if name == "models" else None


# Python looks first in the folder that a command is started in, where many have a `models`, and
# some a `harness`, of their own. What commands import from here on is the project's.
harness.__path__ = [str(_HERE)]
sys.meta_path.insert(0, _OwnModels)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError instead of printing the usage."""
        raise UserError(f"{message} (--help shows what is allowed)")


def main(command: Callable[[list[str]], int]) -> NoReturn:
    """Ends the process with the command's exit code, or with one line and 2 on bad input."""
    try:
        code = command(sys.argv[1:])
        sys.stdout.flush()
    except (UserError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # Whoever reads has read enough; what is still buffered must not fail at the end again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
