"""Functions that models of both frameworks share: no framework in them but in stateful."""

__all__ = [
    "flops",
    "grouped",
    "losses",
    "ops",
    "partitioning",
    "projection",
    "settings",
    "stateful",
    "tables",
    "trees",
]
