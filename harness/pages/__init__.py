"""The report: pages made from records, a `*_page` for each kind; the rest draws and words."""

__all__ = ["gathering", "site"]
