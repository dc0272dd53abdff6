"""Checkpoints: written while it trains, read back, verified."""

__all__ = [
    "archives",
    "checkpointer",
    "digest",
    "faults",
    "files",
    "foreign",
    "matching",
    "renaming",
    "restoring",
    "waiting",
]
