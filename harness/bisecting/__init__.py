"""One step computed operation by operation, and where two of them part."""

__all__ = ["answering", "asking", "computing", "examining", "files", "telling"]
