"""Whether two runs are the same experiment, and every setting and version that differs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness import hardware
from harness.cases.settings import NO_DEFAULT, is_free, later_default
from harness.records.record import Record, at
from harness.terminal.errors import UserError
from harness.terminal.text import nearest

# severe: the figures cannot be compared; mild: they can, and this may be why they differ;
# intended: named by --across, the point of the comparison.
Severity = Literal["severe", "mild", "intended"]

_NOT_THERE = object()
_OWN_TWINS = "the project's own"
_CONFIG = "case.config."
_SEVERE = ("size", "environment.device_kind", "environment.device_count")
_MILD = ("case.name", "init", "nnx_state", "model.attention", "checkpoint.restored_from")
_TWINS = "case.config.twins"
_HEAVIEST = ((_TWINS, "case.config.model.family"), ("status", "steps"), ("size", "recipe"))
_BEGUN = ("case.global_batch", "case.schedule_steps")  # kept by a run that goes on
_DEVICES, _LENGTH = "environment.device_count", "case.config.run.steps"
_ENVIRONMENT = "environment."
_NOT_COMPARED = ("environment.time", *_SEVERE)
_ENDED_WELL = ("completed", "imported")


@dataclass(frozen=True)
class Difference:
    """One key of two records: its values, and what it means for comparing them.

    unknown: the sides that do not tell it, "A", "B" or "AB", whose value is None; in a case's
    settings, None is also a value. words: what the values alone do not say.
    """

    key: str
    a: Any
    b: Any
    severity: Severity
    unknown: str = ""
    words: str = ""


def differences(
    a: Sequence[Record], b: Sequence[Record], across: Sequence[str]
) -> list[Difference]:
    """What keeps the runs `a` from being comparable with the runs `b`, and what merely differs.

    The runs of a side are repeats: the first one speaks for their settings. `across` names keys
    whose difference is the point. In the order severe, intended, mild. Raises UserError for a name
    in `across` that is no key.
    """
    first, second = a[0], b[0]
    _check(across, first, second)
    found = [*_states(a, b), *_experiment(first, second, across)]
    for key in _SEVERE:
        found += _difference(key, first, second, "severe")
    found += _begun(first, second)
    environment = [_ENVIRONMENT + key for key in {**first["environment"], **second["environment"]}]
    for key in [*_MILD, *(key for key in environment if key not in _NOT_COMPARED)]:
        found += _difference(key, first, second, "mild")
    named = [replace(one, severity="intended") if one.key in across else one for one in found]
    order = ("severe", "intended", "mild")
    return sorted(named, key=lambda one: (order.index(one.severity), _weight(one.key)))


def _weight(key: str) -> int:
    """The place of a reason: other models first, then other settings, then what they ran on."""
    for place, names in enumerate(_HEAVIEST):
        if key in names:
            return place
    return len(_HEAVIEST) + (0 if key.startswith(_CONFIG) else 1)


def _begun(a: Record, b: Record) -> Iterable[Difference]:
    """Batch and schedule that a side keeps of its start, where settings do not tell them apart."""
    words = "a run that goes on keeps that of its start"
    batch, schedule = _BEGUN
    if _value(a, _DEVICES) == _value(b, _DEVICES) and _told_apart(batch, a, b):
        yield Difference(batch, *_both(batch, a, b), "severe", words=words)
    if _value(a, _LENGTH) == _value(b, _LENGTH) and _told_apart(schedule, a, b):
        yield Difference(schedule, *_both(schedule, a, b), "mild", words=words)


def _told_apart(key: str, a: Record, b: Record) -> bool:
    one, other = _both(key, a, b)
    return None not in (one, other) and one != other


def _both(key: str, a: Record, b: Record) -> tuple[Any, Any]:
    name = key.removeprefix("case.")
    return a["case"].get(name), b["case"].get(name)


def _states(a: Sequence[Record], b: Sequence[Record]) -> Iterable[Difference]:
    """Runs that did not complete, or have no steps."""
    states = [_worst_state(side) for side in (a, b)]
    if any(state not in _ENDED_WELL for state in states):
        words = "; ".join(
            f"{name}: {record['error']}"
            for name, side in (("A", a), ("B", b))
            for record in side
            if record["error"]
        )
        yield Difference("status", states[0], states[1], "severe", words=words)
    counts = [min(len(record["steps"]) for record in side) for side in (a, b)]
    if 0 in counts:
        yield Difference("steps", counts[0], counts[1], "severe", words="a run has none")


def _worst_state(side: Sequence[Record]) -> str:
    states = [str(record["status"]) for record in side]
    return next((state for state in states if state not in _ENDED_WELL), states[0])


def _experiment(a: Record, b: Record, across: Sequence[str]) -> list[Difference]:
    """What makes it another case: by the hashes, and then by the settings that are in them."""
    hashes = a["case"]["hash"], b["case"]["hash"]
    keys = sorted({*a["case"]["config"], *b["case"]["config"]})
    inside = ["recipe", *(_CONFIG + key for key in keys if not is_free(key))]
    free = [_CONFIG + key for key in keys if is_free(key)]
    found = [one for key in free for one in _difference(key, a, b, "mild")]
    if None in hashes:
        unknown = _unknown(*hashes)
        missing = "neither has one" if unknown == "AB" else f"{unknown} has none"
        words = f"not known to be the same experiment: {missing}"
        found.append(Difference("case.hash", *hashes, "severe", unknown, words))
    severity: Severity = "mild" if None in hashes or "case.hash" in across else "severe"
    named = [one for key in inside for one in _difference(key, a, b, severity)]
    if None not in hashes:
        if hashes[0] == hashes[1] and named:
            words = "equal, though settings differ: a record was changed by hand"
            found.append(Difference("case.hash", *hashes, "severe", words=words))
        elif hashes[0] != hashes[1] and not (named or a["size"] != b["size"]):
            words = "differs though every setting is equal; the tokens of a file count by content"
            found.append(Difference("case.hash", *hashes, "severe", words=words))
    return found + named


def _difference(key: str, a: Record, b: Record, severity: Severity) -> list[Difference]:
    one, other = _value(a, key), _value(b, key)
    if one == other and type(one) is type(other):
        return []
    if key == "environment.device_kind" and _same_device(one, other):
        return []
    missing = _NOT_THERE if key.startswith(_CONFIG) else None  # a setting may well be null
    unknown = _unknown(one, other, missing)
    if key == _TWINS and None not in (a["case"]["hash"], b["case"]["hash"]):
        one, other = (_OWN_TWINS if value is _NOT_THERE else value for value in (one, other))
        unknown = ""
    one, other = (None if value is _NOT_THERE else value for value in (one, other))
    return [Difference(key, one, other, severity, unknown)]


def _unknown(a: Any, b: Any, missing: Any = None) -> str:
    return "".join(name for name, value in (("A", a), ("B", b)) if value is missing)


def _same_device(a: str | None, b: str | None) -> bool:
    """Whether two names are one device's: JAX has two for some TPUs."""
    return hardware.find(a) is not None and hardware.find(a) is hardware.find(b)


def _value(record: Record, key: str) -> Any:
    if key.startswith(_CONFIG):
        setting = key.removeprefix(_CONFIG)
        default = later_default(setting)
        absent = _NOT_THERE if default is NO_DEFAULT else default
        return record["case"]["config"].get(setting, absent)
    if key.startswith(_ENVIRONMENT):  # older records do not tell all of it
        return record["environment"].get(key.removeprefix(_ENVIRONMENT))
    return at(record, key)


def _check(across: Sequence[str], a: Record, b: Record) -> None:
    known = ["case.hash", "status", "recipe", *_SEVERE, *_MILD, *_BEGUN]
    environment = {**a["environment"], **b["environment"]}
    known += [_ENVIRONMENT + key for key in environment if key != "time"]
    known += [_CONFIG + key for key in sorted({*a["case"]["config"], *b["case"]["config"]})]
    for name in across:
        if name not in known:
            usual = " (nearest: such as environment.jax, recipe or case.config.run.seed)"
            hint = nearest(name, known, likeness=0.4) or usual
            raise UserError(f"--across {name!r}: no such key{hint}")
