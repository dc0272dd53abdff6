"""What two sets of runs have in common, what differs, how surely, in words."""

__all__ = [
    "answer",
    "badge",
    "comparison",
    "comparison_text",
    "compiled",
    "model",
    "paired",
    "statistics",
]
