"""The decoder of 1.1 billion parameters, written twice."""
