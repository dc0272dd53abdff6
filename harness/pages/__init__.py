"""The report: pages made from records."""
