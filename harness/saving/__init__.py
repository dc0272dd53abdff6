"""Checkpoints: written while it trains, read back, verified."""

__all__ = [
    "archives",
    "checkpointer",
    "digest",
    "faults",
    "files",
    "folders",
    "foreign",
    "looking",
    "matching",
    "renaming",
    "restoring",
    "waiting",
]
