"""Metrics that a program wrote step by step, by name and exactly, made a record."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.published import attempts, telling
from harness.published.attempts import Steps, Told
from harness.published.document import Document, Imported, amount, blank
from harness.records.record import Record
from harness.terminal.errors import UserError

# What MaxText and Megatron-LM call the same figure, blanks underscored. MaxText's raw norm is the
# one before clipping.
_LOSS = ("learning/loss", "lm_loss", "lm-loss-training/lm_loss")
_GRADIENT_NORM = ("learning/raw_grad_norm", "grad-norm", "grad-norm/grad-norm")
_PERHAPS_CLIPPED = "learning/grad_norm"
_LEARNING_RATE = ("learning/current_learning_rate", "learning-rate", "learning-rate/learning-rate")
_SECONDS = ("perf/step_time_seconds", "iteration-time", "iteration-time/iteration-time")
_WEIGHTS = "learning/total_weights"
_TFLOP, _TOKENS = "perf/per_device_tflops", "perf/per_device_tokens"
_TFLOPS = ("perf/per_device_tflops_per_sec", "throughput")
_TOKENS_PER_SECOND = "perf/per_device_tokens_per_sec"
_EVALUATION = ("eval/avg_loss", "lm_loss_validation", "lm-loss-validation/lm_loss_validation")
_EVALUATION_SECONDS = "eval/step_time_seconds"  # of one step of an evaluation that still runs
_TAKEN = {*_LOSS, *_GRADIENT_NORM, *_LEARNING_RATE, *_SECONDS, *_TFLOPS, _WEIGHTS, _TFLOP, _TOKENS,
          _TOKENS_PER_SECOND}  # fmt: skip
# Further metrics that are kept, under the last part of their names.
_KEPT = re.compile(
    r"learning/(?:\w{1,40}loss|perplexity|param_norm|grad_norm|reward_accuracy)"
    r"|(?:loss-scale|batch-size|params-norm|num-zeros|max_attention_logit)"
)
_NAMES = {
    "losses": _LOSS,
    "gradient norms": (*_GRADIENT_NORM, _PERHAPS_CLIPPED),
    "learning rates": _LEARNING_RATE,
    "seconds of the steps": _SECONDS,
}
_IS_STEP = {*_LOSS, *_SECONDS}
_COUNTED_FROM_1 = {*_LOSS[1:], *_SECONDS[1:]}  # Megatron's iterations
_EXPLANATION = (
    "The program wrote these metrics itself, unrounded; its times are those of the host, from one "
    "dispatch to the next."
)
_NOT_TOLD = (
    "device kind and count, versions, settings, memory, saves (a step that waited for one is among "
    "the samples), everything about programs and checkpoints"
)


@dataclass
class Row:
    """What was written at one step at one time."""

    step: int
    values: dict[str, float] = field(default_factory=dict)


def read(
    document: Document,
    kind: str,
    rows: Sequence[Row],
    notes: Sequence[str],
    parameters: int | None = None,
    begun: float | None = None,
) -> Imported:
    """The record of these rows; raises UserError where none is a step of MaxText or Megatron-LM.

    begun: seconds since 1970.
    """
    first = 1 if any(_COUNTED_FROM_1 & row.values.keys() for row in rows) else 0
    told = [
        Told(max(row.step - first, 0), at, {name: repr(row.values[name]) for name in row.values})
        for at, row in enumerate(rows)
        if _IS_STEP & row.values.keys()
    ]
    if not told:
        raise UserError(f"{document.name}: no step of MaxText or Megatron-LM among its metrics")
    steps = attempts.in_order(told, (), attempts.usual_distance(told))
    record = blank(
        document,
        f"published-{document.sha256[:8]}",
        kind,
        figures=[],
        explanation=_EXPLANATION,
        tflops_per_device=[one.value(*_TFLOPS) for one in steps.told],
        tokens_per_second_per_device=[one.value(_TOKENS_PER_SECOND) for one in steps.told],
        rounding={"loss": 0, "grad_norm": 0},
    )
    record["case"]["config"] = {"run.steps": steps.told[-1].step + 1}
    record["warnings"] += [_EXPLANATION, *notes, *steps.notes]
    if first:
        record["warnings"].append("steps count from 0 here, the program's iterations from 1")
    if begun is not None and 0 <= begun < 1e11:
        record["environment"]["time"] = datetime.fromtimestamp(begun, UTC).isoformat()
    record["model"]["parameters"] = parameters
    _add_steps(record, steps)
    telling.add_evaluations(record, steps.told, _evaluations(rows, first))
    _timing(record, steps)
    telling.warn_of_what_is_not_told(record, steps.told, _NAMES, _NOT_TOLD)
    return Imported(kind, [record])


def _add_steps(record: Record, steps: Steps) -> None:
    raw = any(name in one.fields for one in steps.told for name in _GRADIENT_NORM)
    norms = _GRADIENT_NORM if raw else (_PERHAPS_CLIPPED,)
    if not raw and any(_PERHAPS_CLIPPED in one.fields for one in steps.told):
        record["warnings"].append("whether gradient norms are those before clipping is not told")
    record["steps"] = [
        {
            **_metrics(one, norms),
            "step": one.step,
            "loss": one.value(*_LOSS),
            "grad_norm": one.value(*norms),
            "learning_rate": one.value(*_LEARNING_RATE),
            "step_seconds": amount(one.value(*_SECONDS)),
            "total_weights": telling.whole(one.value(_WEIGHTS)),
            "after_save": False,
        }
        for one in steps.told
    ]
    record["nonfinite_steps"] = sum(
        one.is_broken(*_LOSS) or one.is_broken(*norms) for one in steps.told
    )


def _metrics(one: Told, norms: Sequence[str]) -> dict[str, float | None]:
    names = [name for name in one.fields if name not in {*_TAKEN, *norms} and _KEPT.fullmatch(name)]
    ours = {name: name.rpartition("/")[2].replace("-", "_") for name in names}
    # Beside the norm before clipping, the one after it.
    return {
        "clipped_grad_norm" if key == "grad_norm" else key: one.value(name)
        for name, key in ours.items()
    }


def _evaluations(rows: Sequence[Row], first: int) -> list[dict[str, float | int | None]]:
    """Of the finished ones, with the seconds of their steps, where these are written too."""
    found: dict[int, dict[str, float | int | None]] = {}
    seconds = 0.0
    for row in rows:
        name = next((name for name in _EVALUATION if name in row.values), None)
        if _EVALUATION_SECONDS in row.values:
            seconds += max(row.values[_EVALUATION_SECONDS], 0.0)
        elif name is not None:
            step = max(row.step - first, 0)
            loss = row.values[name]
            found[step] = {
                "step": step,
                "loss": loss if abs(loss) < float("inf") else None,
                "seconds": seconds if 0 < seconds < float("inf") else None,
            }
            seconds = 0.0
    return [found[step] for step in sorted(found)]


def _timing(record: Record, steps: Steps) -> None:
    samples = telling.add_step_seconds(record, steps)
    timing = record["timing"]
    median = timing["step_seconds"]["median"]
    for key, total, rates in (
        ("tflops_per_device", _TFLOP, _TFLOPS),
        ("tokens_per_second_per_device", _TOKENS, (_TOKENS_PER_SECOND,)),
    ):
        work = {one.value(total) for one in samples}
        known = amount(work.pop()) if len(work) == 1 else None
        if known is not None and key == "tflops_per_device":
            record["model"]["tflop_per_step_per_device"] = known
        timing[key] = known / median if known and median else telling.median(samples, *rates)
