"""Trains the same decoder in Flax Linen and in Flax NNX, measures both, and compares them."""
