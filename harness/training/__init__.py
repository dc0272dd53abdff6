"""One run: devices, data, the step, the loop around it, and what is seen of it."""

__all__ = [
    "accounting",
    "beginning",
    "checking",
    "children",
    "compiler_options",
    "console",
    "data",
    "describing",
    "devices",
    "drawing",
    "losses",
    "parallel",
    "pipeline_figures",
    "session",
    "several",
    "timing",
    "token_files",
    "train_step",
    "turns",
    "turns_session",
]
