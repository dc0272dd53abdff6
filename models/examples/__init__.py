"""Pairs for `--twins`, to read before writing one's own: models/seam.py says what a pair has."""
