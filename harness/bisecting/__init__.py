"""One step computed operation by operation, and where two of them part."""
