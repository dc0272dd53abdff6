"""TPU slices that are not there: programs compiled for them, and what these will need and do."""

__all__ = [
    "answering",
    "forecast",
    "forecast_text",
    "prediction",
    "rows",
    "search",
    "search_text",
    "space",
    "topology",
]
