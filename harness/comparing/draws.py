"""How two sides draw their random numbers: whether losses may part by the draws alone."""

from typing import Literal

from harness.records.record import Record, twins

# own: each by keys of its own; aligned: likewise, but made to draw alike. Otherwise they have the
# same keys, or nothing is known of them.
Draws = Literal["own", "aligned", ""]

_UNKNOWN = "unknown"


def of(a: Record, b: Record) -> Draws:
    """How two runs of a user's pair draw; a record that does not tell its keys may be older."""
    if twins(a) is None or twins(a) != twins(b):
        return ""
    keys = {one["model"].get("random_keys", _UNKNOWN) for one in (a, b)}
    aligned = all(one["case"]["config"].get("run.align_random") for one in (a, b))
    if aligned:
        return "aligned" if len(keys) == 2 or _UNKNOWN in keys else ""
    return "own" if len(keys) == 2 and not keys & {None, _UNKNOWN} else ""
