"""What can be wrong with a checkpoint, and its words on one line."""


class CheckpointError(Exception):
    """A checkpoint that could not be written, waited for or read; the message is one line."""


class Damaged(Exception):
    """A committed step that does not hold what was saved; the message is one line."""


def one_line(error: BaseException) -> str:
    """An error's first words, without the pages that storage libraries add."""
    text = " ".join(str(error).partition(" [tensorstore_spec")[0].split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
