"""What can be wrong with a checkpoint."""


class CheckpointError(Exception):
    """A checkpoint that could not be written, waited for or read; the message is one line."""


class Damaged(Exception):
    """A committed step that does not hold what was saved; the message is one line."""
