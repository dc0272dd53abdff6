"""The report: pages made from records, a `*_page` for each kind; the rest draws and words."""

__all__ = ["comparison_page", "gathering", "site"]
