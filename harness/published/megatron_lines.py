"""What single lines of a Megatron-LM log say: iterations, validations, saves, ranks."""

import re
from dataclasses import replace
from typing import Any

from harness.published.attempts import Told, usual_distance
from harness.published.document import NUMBER, amount, in_bytes, number

SIGN = re.compile(
    r"iteration {1,9}[0-9]{1,9}/ {0,9}[0-9]{1,9} \| [^\n]{0,200}?elapsed time per iter"
)

_MIB = 2**20
_ITERATION = re.compile(
    r"(?<![\w(])iteration {1,9}([0-9]{1,9})/ {0,9}([0-9]{1,9}) \|([^\n]{0,4000})"
)
_FIELD = re.compile(rf"(?:\A|\|) {{0,9}}([A-Za-z][^|:\n]{{0,80}}): {{0,19}}{NUMBER}")
_VALIDATION = re.compile(
    r"(?<![\w-])valid(?:ation)?[\w.-]{0,60} loss at iteration ([0-9]{1,9})"
    rf"(?: on validation set)?(?: \[[^\]\n]{{1,60}}\])? \|[^\n]{{0,200}}?loss(?: value)?: {NUMBER}"
)
_EVALUATED = re.compile(rf"evaluate \.{{1,80}}: \({NUMBER}, {NUMBER}\)")
_SAVING = re.compile(r"saving checkpoint at iteration {1,9}([0-9]{1,9}) to ")
_SAVED = re.compile(rf"save-checkpoint \.{{1,80}}: \({NUMBER}, {NUMBER}\)")
_VOCAB = re.compile(
    r"padded vocab \(size: [0-9]{1,12}\) with [0-9]{1,9} dummy tokens \(new size: ([0-9]{1,9})\)"
)
_PARAMETERS = re.compile(
    r"number of parameters on \(tensor, (?:\w{1,40}, )?pipeline\) model parallel rank "
    r"\(([0-9]{1,6}), (?:([0-9]{1,6}), )?([0-9]{1,6})\): ([0-9]{1,15})"
)
_MEMORY = re.compile(
    rf"\[Rank ([0-9]{{1,6}})\] \(after [0-9]{{1,9}} iterations\) memory \(MB\) \| "
    rf"allocated: {NUMBER} \| max allocated: {NUMBER} \| reserved: {NUMBER} \| "
    rf"max reserved: {NUMBER}"
)
_MEMORY_NAMES = ("allocated", "max_allocated", "reserved", "max_reserved")
_NO_METRIC = re.compile(r"[^a-z0-9]{1,80}")

LOSS = ("lm loss", "lm-loss", "lm_loss", "loss")
GRADIENT_NORM, LEARNING_RATE, LOSS_SCALE = "grad norm", "learning rate", "loss scale"
MILLISECONDS, SECONDS = "elapsed time per iteration (ms)", "elapsed time per iteration (s)"
TFLOPS = ("throughput per GPU (TFLOP/s/GPU)", "TFLOPs")
TOKENS = (
    "tokens per GPU (tokens/s/GPU)",
    "tokens per gpu per second (tgs)",
    "tokens per gpu per second(tgs)",
)
BATCH = "global batch size"
SKIPPED, NAN = "number of skipped iterations", "number of nan iterations"
NAMES = {
    "losses": LOSS,
    "gradient norms": (GRADIENT_NORM,),
    "learning rates": (LEARNING_RATE,),
    "seconds of the steps": (MILLISECONDS, SECONDS),
}
_KEPT = ("num zeros", "params norm", BATCH, LOSS_SCALE, "max attention logit", "actual seqlen")
TOTAL = "iterations of the run"


def told(text: str, log_interval: int | None) -> tuple[list[Told], int]:
    """Every line of an iteration, counted from 0, and how many iterations apart they usually are.

    A line's figures are means over the iterations since the line before.
    """
    found = []
    for match in _ITERATION.finditer(text):
        fields = dict(_FIELD.findall(match[3]))
        if MILLISECONDS in fields or SECONDS in fields or any(name in fields for name in LOSS):
            rest = match[3].rstrip(" ")
            found.append(
                Told(
                    step=max(int(match[1]) - 1, 0),
                    at=match.start(),
                    fields={TOTAL: match[2], **fields},
                    form=re.sub("[0-9]+", "0", rest),
                    whole=text.find("\n", match.end()) >= 0,
                )
            )
    every = log_interval or usual_distance(found)
    return [replace(one, covers=_covered(one, every)) for one in found], every


def starts(text: str, begin: re.Pattern[str]) -> list[int]:
    """Where in the text a process lists its arguments."""
    return [match.start() for match in begin.finditer(text)]


def metrics(one: Told) -> dict[str, float | None]:
    """What else a line tells: further losses and what is known by name, in small letters."""
    taken = {
        name
        for name in one.fields
        if name in _KEPT or ("loss" in name.lower() and name not in LOSS)
    }
    names = {name: _NO_METRIC.sub("_", name.lower()).strip("_") for name in taken}
    return {key: one.value(name) for name, key in sorted(names.items()) if key}


def validations(text: str) -> tuple[list[dict[str, float | None]], int]:
    """Step, loss and seconds of each validation; and how many lines tell of further sets.

    Of several sets that are looked at after one iteration the first counts.
    """
    found: dict[int, dict[str, float | None]] = {}
    others, begin = 0, 0
    for match in _VALIDATION.finditer(text):
        clocks = list(_EVALUATED.finditer(text, begin, match.start()))
        begin = match.end()
        step = max(int(match[1]) - 1, 0)
        loss = number(match[2])
        if step in found:
            others += found[step]["loss"] != loss
            continue
        seconds = _seconds(clocks[-1]) if clocks else None
        found[step] = {"step": step, "loss": loss, "seconds": seconds}
    return [found[step] for step in sorted(found)], others


def saves(text: str) -> list[dict[str, Any]]:
    """One entry per save, with the seconds that training stood still, where the log tells them."""
    found = {}
    for match in _SAVING.finditer(text):
        step = max(int(match[1]) - 1, 0)
        following = _SAVING.search(text, match.end())
        clock = _SAVED.search(text, match.end(), following.start() if following else len(text))
        found[step] = {
            "step": step,
            "bytes": None,
            "bytes_per_second": None,
            "blocking_seconds": _seconds(clock) if clock else None,
            "background_seconds": None,
            "waited_for_previous_seconds": None,
        }
    return [found[step] for step in sorted(found)]


def _seconds(clock: re.Match[str]) -> float | None:
    """Of the slowest rank, from the two times across ranks in milliseconds."""
    slowest = amount(number(clock[2]))
    return None if slowest is None else slowest / 1e3


def padded_vocab(text: str) -> int:
    """Entries of the vocabulary, filled up; 0 where the log does not tell."""
    match = _VOCAB.search(text)
    return int(match[1]) if match else 0


def ranks(text: str, ranks_per_stage: int | None) -> dict[int, dict[str, int | None]]:
    """Parameters and memory of every rank that the log tells of.

    `ranks_per_stage` places the pipeline's later stages; None leaves their parameters out.
    """
    found: dict[int, dict[str, int | None]] = {}
    for match in _PARAMETERS.finditer(text):
        part, between, stage = int(match[1]), int(match[2] or 0), int(match[3])
        if between == 0 and (stage == 0 or ranks_per_stage):
            rank = stage * (ranks_per_stage or 0) + part
            found.setdefault(rank, {})["parameters"] = int(match[4])
    for match in _MEMORY.finditer(text):
        for name, value in zip(_MEMORY_NAMES, map(number, match.groups()[1:]), strict=True):
            found.setdefault(int(match[1]), {})[f"{name}_bytes"] = in_bytes(value, _MIB)
    return dict(sorted(found.items()))


def _covered(one: Told, every: int) -> int:
    """The first iteration may be told alone, and the last line may come early."""
    return min(every, one.step + 1) if (one.step + 1) % every == 0 else 1
