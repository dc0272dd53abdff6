"""The error of a user's making: one line that says what, where, and what is allowed."""

from harness.terminal.text import safe

_LONGEST = 2000  # letters of a line; what is quoted may be anything


class UserError(Exception):
    """Bad input, told in one line; every command ends with exit code 2 on it."""

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(safe(line, _LONGEST) for line in message.split("\n")))
