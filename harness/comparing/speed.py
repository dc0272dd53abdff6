"""How fast the steps of two sides are beside each other, and what that rests on."""

import json
from collections.abc import Sequence

import numpy as np

from harness.comparing import paired, statistics
from harness.comparing.model import Speed
from harness.records import figures
from harness.records.record import Record, at

_OF_THE_MOMENT = ("time", "hostname")  # what of its environment changes no run's program
_LENGTH = "run.steps"
_Side = Sequence[Record]


def of_steps(a: _Side, b: _Side, margin: float) -> Speed:
    """Step times, from the surest there is: turns, repeats, or one run a side."""
    same = _is_one_program(a, b)
    blocks = _blocks(a, b)
    in_turns = paired.compare(*blocks, margin)
    if in_turns is not None:
        needed = in_turns.needed
        would = f"about {needed} blocks would do: a longer --turns-seconds"
        advice = "" if needed is None else would
        return Speed(in_turns, "turns", "block", same, advice, blocks)
    samples = [[figures.step_samples(record) for record in side] for side in (a, b)]
    medians = [[float(np.median(run)) for run in side if run] for side in samples]
    if max(len(a), len(b)) > 1:
        return _by_runs(medians[0], medians[1], margin, same)
    ratio = statistics.compare(samples[0][0], samples[1][0], margin)
    return Speed(ratio, "one run", "step", same, _advice(a[0], b[0], in_turns=True))


def of_dispatch(a: _Side, b: _Side, margin: float) -> Speed:
    """What the calls of a step take the host: of each run the median is known, no more."""
    same = _is_one_program(a, b)
    seconds = [
        [value for one in side if (value := figures.figure(one, "timing.host_dispatch_seconds"))]
        for side in (a, b)
    ]
    if max(len(a), len(b)) > 1:
        return _by_runs(seconds[0], seconds[1], margin, same)
    ratio = statistics.compare(seconds[0], seconds[1], margin, independent=True)
    return Speed(ratio, "one run", "run", same, _advice(a[0], b[0], in_turns=False))


def _by_runs(a: Sequence[float], b: Sequence[float], margin: float, same: bool) -> Speed:
    ratio = statistics.compare(a, b, margin, independent=True)
    needed = None if ratio is None else ratio.needed
    advice = "" if needed is None else f"--repeats {needed} would do"
    return Speed(ratio, "runs", "run", same, advice)


def _advice(a: Record, b: Record, in_turns: bool) -> str:
    """What would show what one run a side does not; nobody runs again what a document tells."""
    if "imported" in (a["status"], b["status"]):
        return ""
    repeats = f"--repeats {statistics.min_samples()} would"
    commits = {one["environment"]["git_commit"] for one in (a, b)}
    if not in_turns or len(commits) > 1:
        return repeats
    how = "--impl both" if a["impl"] != b["impl"] else f"--in-turns {a['run_id']} {b['run_id']}"
    return f"turns ({how}) or {repeats}"


def _blocks(a: _Side, b: _Side) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The seconds per step of all blocks that runs of the two sides ran in turns, pair by pair."""
    partners = {record["run_id"]: record for record in b}
    pairs: list[tuple[float, float]] = []
    for one in a:
        turns = one.get("turns")
        other = partners.get(turns["partner"]) if turns else None
        theirs = other.get("turns") if other else None
        if turns and theirs and theirs["partner"] == one["run_id"]:
            sides = (
                [figures.number(block["seconds_per_step"]) for block in told["blocks"]]
                for told in (turns, theirs)
            )
            pairs += [
                (x, y) for x, y in zip(*sides, strict=False) if x is not None and y is not None
            ]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _is_one_program(a: _Side, b: _Side) -> bool:
    """Whether all runs are of one optimised program, called by one code in one environment.

    Also what else goes on beside the steps must be the same, such as saves in the background.
    """
    runs = [*a, *b]
    return all(_known(run) for run in runs) and len({_identity(run) for run in runs}) == 1


def _known(run: Record) -> bool:
    return run["program"]["optimized_sha256"] is not None


def _identity(run: Record) -> str:
    environment = {
        key: value for key, value in run["environment"].items() if key not in _OF_THE_MOMENT
    }
    settings = {key: value for key, value in run["case"]["config"].items() if key != _LENGTH}
    told = [run["program"]["optimized_sha256"], at(run, "nnx_state"), environment, settings]
    return json.dumps(told, sort_keys=True)
