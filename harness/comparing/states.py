"""Which arrays of the final states of two runs differ, by their digests."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.records.record import Record
from harness.terminal.text import counted, shortlist

_PARAMETERS = "parameters"
_PARTS = {  # of a state, by the first name of its paths
    "params": _PARAMETERS,
    "opt_state": "optimizer state",
    "model_state": "model state",
    "loss_scale": "loss scale",
}
_RANDOM = "random state"
_OF_KEYS = ("uint32", "key<")  # how the digests of keys and their counts begin


@dataclass(frozen=True)
class States:
    """How the final state of run B stands to that of run A.

    same: whether what both hold is equal, and all parameters are in both. The rest by array: what
    differs, what one side alone holds, and in words how each part of the state fares; empty where
    the records tell no digests of arrays.
    """

    same: bool
    differing: tuple[str, ...] = ()
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    alone: tuple[str, str] = ("", "")  # of which parts what one side alone holds is


def compare(a: Record, b: Record) -> States | None:
    """Compares what two runs of as many steps ended in; None where a digest is missing."""
    whole = a["checkpoint"]["digest"], b["checkpoint"]["digest"]
    if None in whole:
        return None
    if whole[0] == whole[1]:
        return States(True)
    first, second = (one["checkpoint"].get("digests") for one in (a, b))
    if not first or not second:
        return States(False)
    shared = first.keys() & second.keys()
    differing = sorted(path for path in shared if first[path] != second[path])
    only_a, only_b = sorted(first.keys() - shared), sorted(second.keys() - shared)
    lost = [path for path in (*only_a, *only_b) if _part(path, "") == _PARAMETERS]
    return States(
        same=bool(shared) and not differing and not lost,
        differing=tuple(differing),
        only_a=tuple(only_a),
        only_b=tuple(only_b),
        parts=tuple(_fares(first, shared, differing)),
        alone=(_kinds(only_a, first), _kinds(only_b, second)),
    )


def in_words(states: States, names: tuple[str, str]) -> str:
    """Such as "different final states: parameters equal, 2 of 28 arrays of optimizer state ..."."""
    alone = [
        f"only {name} has {counted(len(paths), 'array')} more ({kinds})"
        for name, paths, kinds in zip(
            names, (states.only_a, states.only_b), states.alone, strict=True
        )
        if paths
    ]
    if states.same:
        return ", ".join(["the same final state", *alone])
    told = [*states.parts, *alone]
    return "different final states" + (f": {', '.join(told)}" if told else "")


def _fares(
    digests: Mapping[str, str], shared: Iterable[str], differing: Iterable[str]
) -> Iterable[str]:
    """What became of each part that both states have."""
    counts = Counter(_part(path, digests[path]) for path in sorted(shared))
    changed: dict[str, list[str]] = {}
    for path in differing:
        changed.setdefault(_part(path, digests[path]), []).append(path)
    for part, count in counts.items():
        if part in changed:
            found = changed[part]
            of = f"{len(found)} of {counted(count, 'array')} of {part} differ"
            yield of if len(found) == count else f"{of} ({shortlist(found, 1)})"
        else:
            yield f"{part} equal"


def _kinds(paths: Iterable[str], digests: Mapping[str, str]) -> str:
    return ", ".join(dict.fromkeys(_part(path, digests[path]) for path in paths))


def _part(path: str, digest: str) -> str:
    """Which part of a state an array is of; keys lie in the model's state."""
    part = _PARTS.get(path.partition("/")[0], path)
    return _RANDOM if part == "model state" and digest.startswith(_OF_KEYS) else part
