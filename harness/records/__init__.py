"""What is kept of a run: its record, its folder, and how records are found again."""
