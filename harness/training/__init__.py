"""One run: devices, data, the step, the loop around it, and what is seen of it."""

__all__ = [
    "accounting",
    "beginning",
    "checking",
    "children",
    "compiler_options",
    "data",
    "describing",
    "devices",
    "drawing",
    "joining",
    "losses",
    "parallel",
    "phases",
    "pipeline_figures",
    "session",
    "several",
    "timing",
    "train_step",
    "turns",
    "turns_session",
]
