"""What all commands share: how they read arguments and how they end on bad input."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from harness.errors import UserError
from harness.records.record import RecordError


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
