"""The error of a user's making: one line that says what, where, and what is allowed."""


class UserError(Exception):
    """Bad input, told in one line; every command ends with exit code 2 on it."""
