"""Checkpoints: written while it trains, read back, verified."""
