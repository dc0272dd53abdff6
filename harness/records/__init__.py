"""What is kept of a run: its record, its folder, and how records are found again."""

__all__ = [
    "atomic",
    "cautions",
    "environment",
    "figures",
    "finding",
    "history",
    "journal",
    "ownership",
    "record",
    "recorder",
    "run_folder",
    "sealing",
    "sense",
    "storage",
    "summary",
]
