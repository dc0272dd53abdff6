"""What a step draws at random: with which keys, in which lines, and whether they are fresh."""

__all__ = ["alignment", "draws", "equations", "freshness"]
