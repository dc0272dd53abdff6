"""What two sets of runs have in common, what differs, how surely, in words."""
