"""A comparison in words, one verdict for each area."""

import math
from collections.abc import Sequence

from harness.comparing import statistics
from harness.comparing.model import Comparison, Limits, Outcome, Verdict
from harness.comparing.parity import Agreement, Parity
from harness.records.figures import number
from harness.text import counted, percent, shortlist, size

_STEPS = "case.config.run.steps"
_MANY = 5000  # steps or runs that nobody would call few


def judge(found: Comparison, limits: Limits) -> list[Verdict]:
    """The verdict of each area, of runs that are comparable."""
    return [
        _numbers(found, limits.loss_difference),
        _speed(found, limits.slowdown_percent),
        _memory(found, limits.memory_percent),
        _program(found),
        _checkpoints(found),
    ]


def numbers_in_words(parity: Parity, names: tuple[str, str] = ("A", "B")) -> str:
    """Where and how far the numbers of two runs part, or that they do not."""
    loss, norm = parity.loss, parity.grad_norm
    if loss.steps == 0:
        return "no step has a loss in both"
    known = None if parity.digits is None else _digits(parity.digits)
    exact = f"equal to the {known} known" if known else "bit-equal"
    parts = []
    if loss.equal:
        what = "losses and gradient norms" if norm.equal else "losses"
        parts.append(f"{what} {exact} over {counted(loss.steps, 'step')}")
    else:
        digits = f" ({known} are known)" if known else ""
        parts.append(f"losses {_apart(loss)}{digits}")
    if norm.first_step is not None:
        parts.append(f"gradient norms {_apart(norm)}")
    if parity.same_state is not None:
        differing = f", in {shortlist(parity.differing)}" if parity.differing else ""
        parts.append(
            "the same final state" if parity.same_state else f"different final states{differing}"
        )
    for name, steps in zip(names, (parity.only_a, parity.only_b), strict=True):
        if steps:
            parts.append(f"only {name} has {_listed(steps)}")
    return "; ".join(parts)


def _digits(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[count] if count < len(words) else count} digit{'' if count == 1 else 's'}"


def _numbers(found: Comparison, allowed: float) -> Verdict:
    parity, words = found.parity, numbers_in_words(found.parity, found.names)
    if parity.loss.steps == 0:
        return Verdict("numbers", "unknown", words)
    if parity.equal:
        return Verdict("numbers", "same", words)
    if parity.learning_rates_part is not None:
        words += f"; learning rates already differ at step {parity.learning_rates_part}"
        if any(difference.key == _STEPS for difference in found.differences):
            return Verdict("numbers", "unclear", f"{words}, as run.steps sets their schedule")
    too_far = (parity.loss.largest or 0.0) > allowed if allowed > 0 else True
    if allowed > 0 and not too_far:
        words += f"; within the {allowed:g} allowed"
    return Verdict("numbers", "different", words, regression=too_far)


def _speed(found: Comparison, margin: float) -> Verdict:
    speed, ratio, (a, b) = found.speed, found.speed.ratio, found.names
    if ratio is None:
        return Verdict("speed", "unknown", "not enough to say: no timed steps on both sides")
    unit = "run" if speed.by_runs else "step"
    counts = (
        counted(ratio.samples_a, unit) + " each"
        if ratio.samples_a == ratio.samples_b
        else f"{ratio.samples_a} and {counted(ratio.samples_b, unit)}"
    )
    change = f"step time {percent(ratio.value)} ({counts})"
    if ratio.low is not None and ratio.high is not None:
        low, high = percent(ratio.low), percent(ratio.high)
        change = f"step time {percent(ratio.value)} ({low} to {high}; {counts})"
    if ratio.direction == "unclear":
        only = "; as they vary so much, only " if (ratio.needed or 0) > _MANY else "; "
        would = f"{only}{speed.advice} would do" if speed.advice else ""
        return Verdict("speed", "unclear", f"not enough to say: {change}{would}")
    if not speed.by_runs:
        change += (
            "; within one run a side, which does not show how runs vary:"
            f" --repeats {statistics.min_samples()} does"
        )
    if ratio.direction == "alike":
        return Verdict("speed", "same", f"alike within {margin:g} %: {change}")
    slower = ratio.direction == "higher"
    words = f"{b} is {'slower' if slower else 'faster'} than {a}: {change}"
    return Verdict("speed", "worse" if slower else "better", words, regression=slower)


def _memory(found: Comparison, allowed: float) -> Verdict:
    parts, worse, better, regression = [], False, False, False
    for row in found.rows:
        what, a, b = row.name.removeprefix("memory "), row.a, row.b
        if row.unit != "bytes" or not isinstance(a, float) or not isinstance(b, float):
            continue
        if a == b:
            parts.append(f"{size(a)} {what} in both")
            continue
        worse, better = worse or b > a, better or b < a
        regression = regression or b > a * (1 + allowed / 100)
        change = f" ({percent(b / a)})" if a else ""
        parts.append(f"{size(a)} -> {size(b)} {what}{change}")
    if not parts:
        return Verdict("memory", "unknown", "not known of both")
    outcome: Outcome = "worse" if worse else "better" if better else "same"
    return Verdict("memory", outcome, ", ".join(parts), regression)


def _program(found: Comparison) -> Verdict:
    programs = found.programs
    if programs.same is None:
        return Verdict("program", "unknown", "not known of both")
    if programs.same:
        return Verdict("program", "same", f"the same, {str(programs.fingerprint)[:12]}")
    lowered = {True: "one lowered text, compiled otherwise", False: "different", None: "different"}
    words = lowered[programs.same_lowered]
    if programs.changes:
        words += f": {shortlist([name for name, _, _ in programs.changes], 4)}"
    else:
        collectives = any(
            side[0]["program"]["collectives"] for side in (found.a, found.b)
        )  # fmt: skip
        words += f", though {'collectives, bytes' if collectives else 'bytes'} and cycles agree"
    if programs.operations is None:
        words += "; program.txt.gz of both runs would name the operations"
    else:
        words += f"; {counted(len(programs.operations), 'kind')} of operation differ"
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
    saves = f"{len(first['saves'])} and {counted(len(second['saves']), 'save')}"
    parts.append(f"training stood still for {stalls} in {saves}")
    return Verdict("checkpoints", outcome, "; ".join(parts))


def _apart(agreement: Agreement) -> str:
    if agreement.largest is None or math.isinf(agreement.largest):
        return f"part at step {agreement.first_step}: one is not finite at {agreement.largest_step}"
    return (
        f"part at step {agreement.first_step}, by at most {agreement.largest:.3g}"
        f" (step {agreement.largest_step})"
    )


def _listed(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
