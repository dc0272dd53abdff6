"""The step and evaluation lines of a MaxText log, from 2023 to today."""

import math
import re
from bisect import bisect_left
from collections.abc import Sequence

from harness.published.attempts import Told
from harness.published.document import ANY_NUMBER, NUMBER, amount, number

SIGN = re.compile(r"completed (?:profiler activation/deactivation )?step: ")

_NAME = r"[A-Za-z][A-Za-z0-9_/ ]{0,60}"
_FIELD = re.compile(rf", {{0,3}}({_NAME}): {{0,9}}{NUMBER}")
_STEP = re.compile(
    r"completed (?:profiler activation/deactivation )?step: ([0-9]{1,9})"
    rf"((?:, {{0,3}}{_NAME}: {{0,9}}{ANY_NUMBER}){{1,40}})"
)
_GLOG = re.compile(
    r"\b[IWEF][0-9]{4} [0-9:.]{8,15} {1,9}([0-9]{1,20}) [\w.]{1,60}:[0-9]{1,6}\] ?\Z"
)
_RAMP_UP = "[Rampup Batch Size Phase], "
_LONGEST_PREFIX = 120
_START = re.compile(r"System Information: Jax Version: ")
_EVALUATIONS = (
    re.compile(rf"Completed eval after train step ([0-9]{{1,9}}), loss={NUMBER}"),
    re.compile(rf"eval metrics after step: {{0,3}}([0-9]{{1,9}}), loss={NUMBER}"),
    re.compile(rf"average loss after step=([0-9]{{1,9}}): [^\n]{{0,80}}?eval_loss={NUMBER}"),
)
_EVALUATION_STEP = re.compile(rf"Completed eval step: [0-9]{{1,9}}, seconds: {NUMBER}")

SECONDS, LOSS = "seconds", "loss"
TFLOPS = ("TFLOP/s/device", "TFLOP/s")
TOKENS, WEIGHTS = "Tokens/s/device", "total_weights"
# Gradient norms and learning rates are printed by some who changed MaxText.
GRADIENT_NORM, LEARNING_RATE = "grad_norm", ("learning_rate", "lr")
_USUAL = {SECONDS, LOSS, *TFLOPS, TOKENS, WEIGHTS, GRADIENT_NORM, *LEARNING_RATE}
NAMES = {
    "losses": (LOSS,),
    "gradient norms": (GRADIENT_NORM,),
    "learning rates": LEARNING_RATE,
    "seconds of the steps": (SECONDS,),
}
_NO_METRIC = re.compile(r"[^a-z0-9]{1,60}")


def told(text: str) -> list[Told]:
    """Every step line, as it is printed; of one process where the lines name their threads."""
    found, threads = [], []
    for match in _STEP.finditer(text):
        rest = match[2]
        fields = dict(_FIELD.findall(rest))
        if not (SECONDS in fields or LOSS in fields):
            continue
        before = text[max(0, match.start() - _LONGEST_PREFIX) : match.start()]
        phase = "ramp-up" if before.endswith(_RAMP_UP) else ""
        thread = _GLOG.search(before.removesuffix(_RAMP_UP))
        threads.append(thread[1] if thread else "")
        found.append(
            Told(
                step=int(match[1]),
                at=match.start(),
                fields=fields,
                form=re.sub("[0-9]+", "0", rest),
                whole=_goes_on(text, match.end()),
                phase=phase,
            )
        )
    return _of_one_thread(found, threads)


def _goes_on(text: str, end: int) -> bool:
    """Whether what ends there was not cut: something follows that is no more of it."""
    return text[end : end + 1].isspace() or text.find("\n", end) >= 0


def _of_one_thread(found: Sequence[Told], threads: Sequence[str]) -> list[Told]:
    """The lines of one process of several that speak in turns; of one after another all."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for one, thread in zip(found, threads, strict=True):
        first.setdefault(thread, one.at)
        last[thread] = one.at
    chosen, end, kept = {""}, -1, []
    for one, thread in zip(found, threads, strict=True):
        if thread not in chosen and first[thread] > end:
            chosen.add(thread)
            end = last[thread]
        if thread in chosen:
            kept.append(one)
    return kept


def starts(text: str) -> list[int]:
    """Where in the text a process says that it begins."""
    return [match.start() for match in _START.finditer(text)]


def evaluations(text: str) -> list[dict[str, float | None]]:
    """Step, loss and seconds of each evaluation, in order; of a step told twice the last."""
    lines = sorted(
        (match for pattern in _EVALUATIONS for match in pattern.finditer(text)),
        key=lambda match: match.start(),
    )
    # An evaluation's own steps say how long each took.
    clocks = list(_EVALUATION_STEP.finditer(text))
    places = [clock.start() for clock in clocks]
    found: dict[int, dict[str, float | None]] = {}
    for begin, match in zip([0, *(line.start() for line in lines)], lines, strict=False):
        own = clocks[bisect_left(places, begin) : bisect_left(places, match.start())]
        known = [value for clock in own if (value := amount(number(clock[1]))) is not None]
        found[int(match[1])] = {
            "step": int(match[1]),
            "loss": number(match[2]),
            "seconds": sum(known) if known and len(known) == len(own) else None,
        }
    return [found[step] for step in sorted(found)]


def metrics(one: Told) -> dict[str, float | None]:
    """What else a line tells, such as the perplexity, under names of small letters."""
    return {
        _NO_METRIC.sub("_", name.lower()).strip("_"): one.value(name)
        for name in one.fields
        if name not in _USUAL
    }


def tokens_per_step(lines: Sequence[Told], length: int) -> int | None:
    """Tokens of one device and step: the only number of sequences that all rates and times allow.

    Both are rounded, so that each line allows a range; None without rates, or when several
    multiples of a sequence's `length`, or none, lie in all ranges.
    """
    low, high = 0.0, float("inf")
    for one in lines:
        seconds, rate = one.value(SECONDS), one.value(TOKENS)
        if seconds is None or rate is None:
            continue
        time_error, rate_error = one.half_unit(SECONDS) or 0.0, one.half_unit(TOKENS) or 0.0
        low = max(low, (seconds - time_error) * (rate - rate_error))
        high = min(high, (seconds + time_error) * (rate + rate_error))
    if not low <= high < 1e15:
        return None
    least = length * math.ceil(low / length)
    return least if 0 < least <= high < least + length else None
