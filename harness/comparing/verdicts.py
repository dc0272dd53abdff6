"""A comparison in words, one verdict for each area."""

from harness.comparing import numbers, speed_verdicts
from harness.comparing.model import Comparison, Limits, Outcome, Verdict
from harness.records.figures import number
from harness.terminal.text import counted, percent, safe, shortlist, size


def judge(found: Comparison, limits: Limits) -> list[Verdict]:
    """The verdict of each area, of runs that are comparable."""
    margin = limits.slowdown_percent
    return [
        numbers.judge(found, limits.loss_difference),
        speed_verdicts.judge("speed", "step time", found.speed, found.names, margin),
        speed_verdicts.judge(
            "host dispatch", "call of a step", found.dispatch, found.names, margin
        ),
        _memory(found, limits.memory_percent),
        _program(found),
        _checkpoints(found),
    ]


def _memory(found: Comparison, allowed: float) -> Verdict:
    """Within the limit it is the same, as two counters of random numbers more are."""
    parts, worse, better = [], False, False
    for row in found.rows:
        what, a, b = row.name.removeprefix("memory "), row.a, row.b
        if row.unit != "bytes" or not isinstance(a, float) or not isinstance(b, float):
            continue
        if a == b:
            parts.append(f"{size(a)} {what} in both")
            continue
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
        sides = (found.a, found.b)
        collectives = any(side[0]["program"]["collectives"] for side in sides)
        words += f", though {'collectives, bytes' if collectives else 'bytes'} and cycles agree"
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
    if outcome == "same":
        parts.append(f"the same {first['arrays']:,} arrays, {size(number(first['bytes']) or 0)}")
    stalls = " and ".join("unknown" if s is None else f"{s:.3f} s" for s in (stall.a, stall.b))
    counts = [len(side["saves"]) for side in (first, second)]
    saves = f"{counts[0]} and {counted(counts[1], 'save')}"
    if counts[0] == counts[1]:
        saves = f"{counted(counts[0], 'save')} each"
    parts.append(f"training stood still for {stalls} in {saves}")
    return Verdict("checkpoints", outcome, "; ".join(parts))
