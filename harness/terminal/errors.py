"""The error of a user's making: a line that says what, where, and what is allowed."""

from harness.terminal.text import safe

_LONGEST = 2000  # letters of a line; what is quoted may be anything


class UserError(Exception):
    """Bad input, told in a line for each fault; every command ends with exit code 2 on it."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\nerror: ".join(safe(fault, _LONGEST) for fault in faults))
