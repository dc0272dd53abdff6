"""Whether the numbers of two sides are the same, in words."""

import math
from collections.abc import Sequence

from harness.comparing import states
from harness.comparing.model import Comparison, Outcome, Verdict
from harness.comparing.parity import Agreement, Parity
from harness.records.cautions import Caution
from harness.terminal.text import counted, safe

_OF_SCHEDULES = ("case.config.run.steps", "case.schedule_steps")


def in_words(parity: Parity, names: tuple[str, str] = ("A", "B")) -> str:
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
    parts += [f"values of {safe(name)} {_apart(one)}" for name, one in parity.metrics.items()]
    if parity.evaluations.steps:
        equal = parity.evaluations.equal
        parts.append(f"evaluations {'bit-equal' if equal else _apart(parity.evaluations)}")
    if parity.states is not None:
        parts.append(states.in_words(parity.states, names))
    for name, steps in zip(names, (parity.only_a, parity.only_b), strict=True):
        if steps:
            parts.append(f"only {name} has {_listed(steps)}")
    return "; ".join(parts)


def judge(found: Comparison, allowed: float) -> Verdict:
    """The verdict; losses may lie `allowed` apart."""
    parity, doubts, unsure = found.parity, _doubts(found), _warned(found, Caution.UNSURE)
    differing, open_ = _warned(found, Caution.DIFFERING), uncompared(found)
    but = [f"but {one}" for one in (*differing, *unsure, *doubts)]
    parts = [in_words(parity, found.names), *but]
    words = "; ".join([*parts, *([f"not compared: {', '.join(open_)}"] if open_ else [])])
    if parity.loss.steps == 0:
        return Verdict("numbers", "unknown", words)
    if parity.equal and differing:  # by other values than those that were trained on
        return Verdict("numbers", "different", words, regression=True)
    if parity.equal:
        outcome: Outcome = "unclear" if doubts or unsure else "same"
        return Verdict("numbers", outcome, words, doubted=bool(doubts))
    if _begin_apart(found) and not differing:
        return Verdict(
            "numbers", "unclear", f"{words}; the initial weights differ already (--init)"
        )
    if parity.learning_rates_part is not None:
        words += f"; learning rates already differ at step {parity.learning_rates_part}"
        if any(difference.key in _OF_SCHEDULES for difference in found.differences):
            return Verdict("numbers", "unclear", f"{words}, as run.steps sets their schedule")
    farthest = max(one.largest or 0.0 for one in (parity.loss, parity.evaluations))
    too_far = farthest > allowed if allowed > 0 else True
    if allowed > 0 and not too_far:
        words += f"; within the {allowed:g} allowed"
    words += _way_on(found) if too_far else ""
    return Verdict("numbers", "different", words, regression=too_far)


def _way_on(found: Comparison) -> str:
    """What a user does next whose own two models part."""
    a, b = found.a[0], found.b[0]
    config, other = a["case"]["config"], b["case"]["config"]
    twins = config.get("twins")
    if twins is None or twins != other.get("twins") or a["impl"] == b["impl"]:
        return ""
    aligned = config.get("run.align_random") or other.get("run.align_random")
    own = "" if aligned else "each draws random numbers of its own but with --align-random; "
    return f"; {own}harness bisect --twins {twins} finds the first operation that differs"


def uncompared(found: Comparison) -> list[str]:
    """What equal numbers say nothing of, and what nothing else was found to be amiss with."""
    return _warned(found, Caution.NOT_COMPARED)


def _doubts(found: Comparison) -> list[str]:
    """In what two of equal numbers are unlike: they begin apart, hold more, draw nothing anew."""
    told = [_warned(found, one) for one in (Caution.STARTED, Caution.ALONE)]
    drawn = dict.fromkeys(
        f"{name} {what}"
        for name, side in zip(found.names, (found.a, found.b), strict=True)
        for record in side
        for what in Caution.RANDOM.among(record["warnings"])
    )
    return [*told[0], *told[1], *drawn]


def _warned(found: Comparison, caution: Caution) -> list[str]:
    """What the runs of both sides warn of, each once."""
    sides = (record["warnings"] for side in (found.a, found.b) for record in side)
    return [*dict.fromkeys(what for warnings in sides for what in caution.among(warnings))]


def _begin_apart(found: Comparison) -> bool:
    """Whether the two sides began from weights that different frameworks made."""
    a, b = found.a[0], found.b[0]
    restored = {one["checkpoint"]["restored_from"] for one in (a, b)}
    if len(restored) == 1 and None not in restored:
        return False
    inits = {a["init"], b["init"]}
    return len(inits - {None}) == 2 or (inits == {"native"} and a["impl"] != b["impl"])


def _digits(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[count] if count < len(words) else count} digit{'' if count == 1 else 's'}"


def _apart(agreement: Agreement) -> str:
    if agreement.largest is None or math.isinf(agreement.largest):
        return f"part at step {agreement.first_step}: one is not finite at {agreement.largest_step}"
    return (
        f"part at step {agreement.first_step}, by at most {agreement.largest:.3g}"
        f" (step {agreement.largest_step})"
    )


def _listed(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
