"""The report: pages made from records."""

__all__ = ["gathering", "site"]
