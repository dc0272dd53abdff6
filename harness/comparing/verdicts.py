"""A comparison in words, one verdict for each area."""

from harness.comparing import draws, numbers, speed_verdicts
from harness.comparing.model import Comparison, Limits, Outcome, Verdict
from harness.records.figures import number
from harness.records.record import twins
from harness.terminal.text import counted, percent, safe, shortlist, size

_LITTLE = 16 * 1024  # bytes: what keys and counters of tiny models come to, and no device lacks
_RANDOM = "random/"  # how the paths of a framework's random state begin
_COUNTED = {"collectives": "collectives", "wire_bytes": "bytes", "fusion_cycles": "cycles"}


def judge(found: Comparison, limits: Limits) -> list[Verdict]:
    """The verdict of each area, of runs that are comparable."""
    margin = limits.slowdown_percent
    timed = [
        speed_verdicts.judge("speed", "step time", found.speed, found.names, margin),
        speed_verdicts.judge(
            "host dispatch", "call of a step", found.dispatch, found.names, margin
        ),
    ]
    if draws.of(found.a[0], found.b[0]) == "aligned":
        timed = [_of_aligned(one, found) for one in timed]
    return [
        numbers.judge(found, limits.loss_difference),
        *timed,
        _memory(found, limits.memory_percent),
        _program(found),
        _checkpoints(found),
    ]


def _of_aligned(verdict: Verdict, found: Comparison) -> Verdict:
    """What steps took whose draws were aligned says nothing of the models as they are."""
    command = f"harness run --twins {safe(str(twins(found.a[0])))}"
    words = f"timed with aligned draws ({command} times them without); {verdict.words}"
    return Verdict(verdict.area, "unknown", words)


def _memory(found: Comparison, allowed: float) -> Verdict:
    """Within the limit it is the same; so is a little more or less, as tiny models' keys are."""
    parts, worse, better = [], False, False
    for row in found.rows:
        what, a, b = row.name.removeprefix("memory "), row.a, row.b
        if row.unit != "bytes" or not isinstance(a, float) or not isinstance(b, float):
            continue
        if a == b:
            parts.append(f"{size(a)} {what} in both")
            continue
        if abs(a - b) > _LITTLE or allowed == 0:
            worse = worse or b > a * (1 + allowed / 100)
            better = better or a > b * (1 + allowed / 100)
        change = f"{b - a:+,.0f} bytes" + (f", {percent(b / a)}" if a else "")
        parts.append(f"{size(a)} -> {size(b)} {what} ({change})")
    if not parts:
        return Verdict("memory", "unknown", "not known of both")
    outcome: Outcome = "worse" if worse else "better" if better else "same"
    return Verdict("memory", outcome, ", ".join(parts), regression=worse)


def _program(found: Comparison) -> Verdict:
    programs = found.programs
    if programs.same is None:
        return Verdict("program", "unknown", "not known of both")
    if programs.same:
        lowered_apart = programs.same_lowered is False
        remark = "; the texts before compiling differ in names only" if lowered_apart else ""
        return Verdict("program", "same", f"the same, {str(programs.fingerprint)[:12]}{remark}")
    lowered = {True: "one lowered text, compiled otherwise", False: "different", None: "different"}
    words = lowered[programs.same_lowered]
    if programs.changes:
        words += f": {shortlist([safe(name, 60) for name, _, _ in programs.changes], 4)}"
    else:
        sides = [side[0]["program"] for side in (found.a, found.b)]
        known = [name for key, name in _COUNTED.items() if all(one[key] for one in sides)]
        words += f", though equal in {', '.join(known)}" if known else ""
    if programs.kinds is None:
        words += "; program.txt.gz of both runs would name the operations"
    else:
        told = ", ".join(f"{kind} ({count})" for kind, count in programs.kinds)
        words += f"; what differs is {told}"
        words += "" if any(kind == "mathematics" for kind, _ in programs.kinds) else " alone"
    return Verdict("program", "different", words)


def _checkpoints(found: Comparison) -> Verdict:
    first, second = found.a[0]["checkpoint"], found.b[0]["checkpoint"]
    stall = next(row for row in found.rows if row.name == "checkpoint stall")
    if not first["saves"] and not second["saves"]:
        return Verdict("checkpoints", "unknown", "none saved")
    parts = []
    outcome: Outcome = "same"
    for what, key in (("arrays", "arrays"), ("bytes", "bytes")):
        a, b = first[key], second[key]
        if a is None or b is None:
            outcome = "unknown"
        elif a != b:
            outcome = "different"
            parts.append(f"{a:,} -> {b:,} {what}")
    own = [one.get("own", {}) for one in (first, second)]
    alone = [{path for path in one if not path.startswith(_RANDOM)} for one in own]
    if alone[0] != alone[1]:
        outcome = "different"
        parts += [
            f"only {name} saves {shortlist([safe(path, 60) for path in sorted(mine - theirs)])}"
            for name, mine, theirs in zip(found.names, alone, reversed(alone), strict=True)
            if mine - theirs
        ]
    if outcome == "same":
        parts.append(f"the same {first['arrays']:,} arrays, {size(number(first['bytes']) or 0)}")
    for name, one in zip(found.names, own, strict=True):
        random = sum(count for path, count in one.items() if path.startswith(_RANDOM))
        parts += [f"not compared: {name}'s random state, {size(random)}"] if random else []
    stalls = " and ".join("unknown" if s is None else f"{s:.3f} s" for s in (stall.a, stall.b))
    counts = [len(side["saves"]) for side in (first, second)]
    saves = f"{counts[0]} and {counted(counts[1], 'save')}"
    if counts[0] == counts[1]:
        saves = f"{counted(counts[0], 'save')} each"
    parts.append(f"training stood still for {stalls} in {saves}")
    return Verdict("checkpoints", outcome, "; ".join(parts))
