"""One run: devices, data, the step, the loop around it, and what is seen of it."""
