"""One run: devices, data, the step, the loop around it, and what is seen of it."""

__all__ = [
    "accounting",
    "checking",
    "compiler_options",
    "console",
    "data",
    "describing",
    "devices",
    "losses",
    "parallel",
    "session",
    "timing",
    "token_files",
    "train_step",
]
