"""Whether the numbers of two sides are the same, in words."""

import math
from collections.abc import Sequence

from harness.comparing import draws, states
from harness.comparing.model import Comparison, Outcome, Verdict
from harness.comparing.parity import Agreement, Parity
from harness.records.cautions import Caution
from harness.records.record import twins
from harness.terminal.text import counted, safe

_OF_SCHEDULES = ("case.config.run.steps", "case.schedule_steps")

_SAID = (Caution.DIFFERING, Caution.STARTED, Caution.ALONE, Caution.UNSURE, Caution.RANDOM)


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
    """The verdict, of which the first words are the answer; losses may lie `allowed` apart."""
    parity, doubts, unsure = found.parity, _doubts(found), _warned(found, Caution.UNSURE)
    differing = _warned(found, Caution.DIFFERING)
    words, reasons = in_words(parity, found.names), [*differing, *doubts, *unsure]
    if parity.loss.steps == 0:
        return Verdict("numbers", "unknown", "; ".join([f"not known: {words}", *reasons]))
    if parity.equal and differing:  # by other values than those that were trained on
        return _reasoned("different", reasons, f"in training: {words}", regression=True)
    if parity.equal and reasons:
        return _reasoned("unclear", reasons, f"in training: {words}", doubted=bool(doubts))
    if parity.equal:
        less = uncompared(found) or parity.only_a or parity.only_b or parity.digits is not None
        where = " where compared" if less else ""
        return Verdict("numbers", "same", f"the same{where}: {words}")
    if not differing:
        open_ = _undecided(found)
        if open_ is not None:
            return _reasoned("unclear", [open_, *reasons], words, doubted=_draws_its_own(found))
    if parity.learning_rates_part is not None:
        words += f"; learning rates already differ at step {parity.learning_rates_part}"
    farthest = max(one.largest or 0.0 for one in (parity.loss, parity.evaluations))
    too_far = farthest > allowed if allowed > 0 else True
    if allowed > 0 and not too_far:
        words += f"; within the {allowed:g} allowed"
    way_on = _way_on(found) if too_far else []
    if differing:  # which tells a fault from draws that differ
        drawn = ", where each draws random numbers of its own" if _draws_its_own(found) else ""
        words = f"in training{drawn}: {words}"
        return _reasoned("different", [*reasons, *way_on], words, regression=too_far)
    told = [f"different: {words}", *reasons, *way_on]
    return Verdict("numbers", "different", "; ".join(told), regression=too_far)


def _reasoned(
    outcome: Outcome,
    reasons: Sequence[str],
    words: str,
    regression: bool = False,
    doubted: bool = False,
) -> Verdict:
    """A verdict that does not follow from the numbers of the steps alone, but for reasons."""
    told = "; ".join([f"{outcome}: {reasons[0]}", *reasons[1:], words])
    return Verdict("numbers", outcome, told, regression, doubted, reasons[0])


def _undecided(found: Comparison) -> str | None:
    """Why numbers may part for another reason than the models; None where there is none."""
    if _begin_apart(found):
        return "the initial weights differ already (--init)"
    part = found.parity.learning_rates_part
    if part is not None and any(one.key in _OF_SCHEDULES for one in found.differences):
        return f"learning rates already differ at step {part}, as run.steps sets their schedule"
    if _draws_its_own(found):
        return (
            "each draws random numbers of its own, and losses part by that alone;"
            f" harness run --twins {safe(str(twins(found.a[0])))} --align-random decides"
        )
    return None


def _draws_its_own(found: Comparison) -> bool:
    return draws.of(found.a[0], found.b[0]) == "own"


def _way_on(found: Comparison) -> list[str]:
    """What a user does next whose own two models part."""
    a, b = found.a[0], found.b[0]
    module = twins(a)
    if module is None or module != twins(b) or a["impl"] == b["impl"]:
        return []
    return [f"harness bisect --twins {safe(module)} finds the first operation that differs"]


def uncompared(found: Comparison) -> list[str]:
    """What equal numbers say nothing of, and what nothing else was found to be amiss with."""
    return _warned(found, Caution.NOT_COMPARED)


def says(warning: str) -> bool:
    """Whether the verdict, or the answer, says what a run warns of."""
    return any(one.among([warning]) for one in (*_SAID, Caution.NOT_COMPARED))


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
