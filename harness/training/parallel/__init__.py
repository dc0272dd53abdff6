"""How one step is spread over devices."""

__all__ = ["mesh", "pipeline", "schedule", "stage"]
