"""What a candidate is expected to need and to take, before it is compiled, from what was."""

from collections.abc import Mapping
from dataclasses import replace

from harness.slices.rows import Figures
from harness.slices.space import RECIPE, REMAT, Candidate, Change, Space

_NO_TIME = 1e-9
_Known = Mapping[Candidate, Figures]


def estimate(space: Space, known: _Known, near: Candidate, change: Change) -> Figures:
    """What is expected of the candidate `near`, which is known, with one thing set otherwise.

    Where the same settings are known with other batches: the line through the nearest two; of one,
    the step with its computation in proportion, in the same memory up to twice the batch and in
    proportion beyond. Else as the same change did to another candidate. Of one that was never
    tried, the best that it can do, in no memory at all, so that it is tried soon: of a recipe the
    roofline, of what is computed again the same step with nothing but the roofline computed. Of
    anything else, that it does nothing.
    """
    target = space.changed(near, change)
    size = int(space.value(target, space.batch_key))
    alike = {
        int(space.value(one, space.batch_key)): figures
        for one, figures in known.items()
        if one != target and _but(one, space.batch_key) == _but(target, space.batch_key)
    }
    if alike:
        first, *others = sorted(alike, key=lambda other: abs(other - size))
        second = alike[others[0]] if others else None
        return _of_batch(alike[first], second, size)
    pair = _same_change(space, known, near, change)
    at = known[near]
    if pair is None:
        return _hoped_for(at, change)
    before, after = pair
    return replace(
        at,
        tokens=at.tokens * after.tokens / before.tokens,
        step_seconds=at.step_seconds * after.step_seconds / before.step_seconds,
        needed_bytes=round(at.needed_bytes * after.needed_bytes / before.needed_bytes),
    )


def _hoped_for(at: Figures, change: Change) -> Figures:
    """The best that a change can do which was never tried."""
    if change.key == RECIPE:
        return replace(at, step_seconds=at.least_seconds or _NO_TIME, needed_bytes=0)
    if change.key != REMAT:
        return at
    again = 0.0 if change.old == "none" else at.busy_seconds - at.least_seconds
    return replace(at, step_seconds=at.step_seconds - again, needed_bytes=0)


def _of_batch(at: Figures, other: Figures | None, size: int) -> Figures:
    """With a batch of that size; `other` has a third one."""
    ratio = size / at.batch
    scaled = replace(
        at,
        batch=size,
        tokens=at.tokens * ratio,
        step_seconds=at.step_seconds + (ratio - 1) * at.busy_seconds,
        busy_seconds=at.busy_seconds * ratio,
        least_seconds=at.least_seconds * ratio,
        needed_bytes=round(at.needed_bytes * max(1, ratio / 2)),
    )
    if other is None:
        return scaled
    steps = (size - at.batch) / (other.batch - at.batch)
    return replace(
        scaled,
        step_seconds=at.step_seconds + steps * (other.step_seconds - at.step_seconds),
        needed_bytes=round(at.needed_bytes + steps * (other.needed_bytes - at.needed_bytes)),
    )


def _but(candidate: Candidate, key: str) -> Candidate:
    kept = tuple(setting for setting in candidate.settings if setting[0] != key)
    return replace(candidate, settings=kept)


def _same_change(
    space: Space, known: _Known, near: Candidate, change: Change
) -> tuple[Figures, Figures] | None:
    """Before and after, of what the change made of another candidate; of that nearest in batch."""
    pairs = [
        (figures, known[changed])
        for one, figures in known.items()
        if space.value(one, change.key) == change.old
        for changed in [space.changed(one, change)]
        if changed in known
    ]
    tokens = known[near].tokens
    return min(pairs, key=lambda pair: abs(pair[0].tokens - tokens)) if pairs else None
