"""What is run: the settings, read from files and command lines, and the pair they are of."""

__all__ = ["catalogue", "families", "reading", "settings"]
