"""What makes two runs the same experiment, as far as a single setting can tell."""


def is_free(key: str) -> bool:
    """Whether runs of one experiment may differ in a setting: how long they go, what they save."""
    return key == "run.steps" or key.startswith("checkpoint.")
