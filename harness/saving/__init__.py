"""Checkpoints: written while it trains, read back, verified."""

__all__ = ["checkpointer", "digest", "files", "restoring", "waiting"]
