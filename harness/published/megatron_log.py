"""A log of Megatron-LM or of what came of it, made a record."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.cases import reading
from harness.published import attempts, megatron_arguments, megatron_checks, telling
from harness.published import megatron_lines as lines
from harness.published.attempts import Steps, Told
from harness.published.document import Document, Imported, amount, blank, facing
from harness.records.record import Record
from harness.terminal.errors import UserError

KIND = "Megatron-LM log"
SIGN = re.compile(f"{megatron_arguments.BEGIN.pattern}|{lines.SIGN.pattern}")

_NOT_TOLD = (
    "device kind, versions, time zone, compiled memory, everything about programs, most about "
    "checkpoints"
)


def read(document: Document) -> Imported:
    """The record of a log; raises UserError when it ends before one iteration is over."""
    starts = lines.starts(document.text, megatron_arguments.BEGIN)
    listed = [megatron_arguments.read(document, document.text[at:]) for at in starts]
    arguments, unread = listed[-1] if listed else ({}, frozenset())
    told, every = lines.told(document.text, arguments.get("log_interval"))
    steps = attempts.in_order(told, starts, every)
    if not steps.told:
        cut = "" if document.text.endswith("\n") else ": cut short?"
        raise UserError(f"{document.name}: no iteration finished in this Megatron log{cut}")
    # What holds for one attempt is read from the last one.
    begin = starts[-1] if starts else 0
    text = document.text[begin:]
    vocab = lines.padded_vocab(text) or arguments.get("padded_vocab_size") or 0
    record = blank(
        document,
        "to be named",
        KIND,
        figures=[],
        explanation="Figures are set beside what the log's own arguments give.",
        settings=_settings(arguments, vocab, steps),
        schedule=[],
        tflops_per_device=[one.value(*lines.TFLOPS) for one in steps.told],
        tokens_per_second_per_device=[one.value(*lines.TOKENS) for one in steps.told],
    )
    record["case"]["config"] = arguments
    record["environment"] |= {
        "device_count": arguments.get("world_size"),
        "process_count": arguments.get("world_size"),
    }
    record["warnings"] += [
        *steps.notes,
        *_differences([one for one, _ in listed]),
        "steps count from 0 here, the log's iterations from 1",
        "arguments other than numbers and known words are not taken over",
    ]
    _add_steps(record, steps, document.text)
    _timing(record, steps, every)
    findings = megatron_checks.add_parameters(record, text, arguments, unread, vocab)
    attempt = [replace(one, at=one.at - begin) for one in told if one.at > begin]
    findings += megatron_checks.add_schedule(record, text, arguments, attempt)
    record["run_id"] = _run_id(record)
    telling.warn_of_what_is_not_told(record, steps.told, lines.NAMES, _NOT_TOLD)
    ours = reading.flatten(reading.load("01_baseline"))
    findings += ["settings that 01_baseline has too:", *facing(ours, record["source"]["settings"])]
    return Imported(KIND, [record], findings)


def _settings(arguments: dict[str, Any], vocab: int, steps: Steps) -> dict[str, Any]:
    """As many iterations as the lines name where the arguments name samples instead."""
    total = steps.told[-1].value(lines.TOTAL)
    settings = {"run.steps": int(total or 0)} | megatron_arguments.our_settings(arguments, vocab)
    return dict(sorted(settings.items()))


def _add_steps(record: Record, steps: Steps, text: str) -> None:
    told = steps.told
    saved = lines.saves(text)
    record["checkpoint"]["saves"] = saved
    after_saves = telling.following(told, [save["step"] for save in saved])
    record["steps"] = [
        {
            **lines.metrics(one),
            "step": one.step,
            "loss": one.value(*lines.LOSS),
            "grad_norm": one.value(lines.GRADIENT_NORM),
            "learning_rate": one.value(lines.LEARNING_RATE),
            "step_seconds": _seconds(one),
            "total_weights": None,
            "after_save": one.step in after_saves,
        }
        for one in told
    ]
    evaluations, others = lines.validations(text)
    telling.add_evaluations(record, told, evaluations)
    if others:
        record["warnings"].append(
            f"validations on several sets: the first set's losses are kept, {others} others are not"
        )
    loss = next((name for name in lines.LOSS if any(name in one.fields for one in told)), "")
    telling.add_rounding(record, told, {"loss": loss, "grad_norm": lines.GRADIENT_NORM})
    _count_failures(record, told)


def _count_failures(record: Record, told: Sequence[Told]) -> None:
    """Iterations that were skipped or not finite; a line may stand for several."""
    skipped = sum(_count(one, lines.SKIPPED) for one in told)
    nan = sum(_count(one, lines.NAN) for one in told)
    scale = told[-1].value(lines.LOSS_SCALE)
    record["nonfinite_steps"] = sum(
        max(
            _count(one, lines.NAN),
            one.is_broken(*lines.LOSS) or one.is_broken(lines.GRADIENT_NORM),
        )
        for one in told
    )
    record["source"] |= {
        "skipped_iterations": skipped, "nan_iterations": nan, "loss_scale": scale,
    }  # fmt: skip
    if skipped:
        covered = sum(one.covers for one in told)
        words = "" if scale is None else f", at a loss scale of {scale:g} in the end"
        silent = sum(step["loss"] is None for step in record["steps"])
        untold = f"; lines without a loss: {silent}" if silent else ""
        record["warnings"].append(
            f"{skipped} of {covered} iterations skipped{words}: a scaled gradient overflowed"
            + untold
        )


def _count(one: Told, name: str) -> int:
    return int(amount(one.value(name)) or 0)


def _timing(record: Record, steps: Steps, every: int) -> None:
    """Sums up the samples' times, and the rates as told, or from batch, length and devices."""
    if any(one.covers > 1 for one in steps.told):
        record["source"]["log_interval"] = every
        record["warnings"].append(
            f"each line is a mean over {every} iterations: so are the steps' figures, and "
            "percentiles are of such means"
        )
    samples = telling.add_step_seconds(record, steps)
    timing, arguments = record["timing"], record["case"]["config"]
    median = timing["step_seconds"]["median"]
    timing["tflops_per_device"] = telling.median(samples, *lines.TFLOPS)
    timing["tokens_per_second_per_device"] = telling.median(samples, *lines.TOKENS)
    batches = {one.value(lines.BATCH) for one in samples}
    length, devices = arguments.get("seq_length"), arguments.get("world_size")
    batch = batches.pop() if len(batches) == 1 else None
    if timing["tokens_per_second_per_device"] is None and median and batch and length and devices:
        timing["tokens_per_second_per_device"] = batch * length / devices / median


def _seconds(one: Told) -> float | None:
    milliseconds = one.value(lines.MILLISECONDS)
    seconds = one.value(lines.SECONDS) if milliseconds is None else milliseconds / 1e3
    return amount(seconds)


def _differences(listed: Sequence[dict[str, Any]]) -> list[str]:
    """What a later attempt was told otherwise than the first."""
    first = listed[0] if listed else {}
    changes = {
        f"{key} ({first.get(key)}, then {later.get(key)})"
        for later in listed[1:]
        for key in first.keys() | later.keys()
        if first.get(key) != later.get(key)
    }
    if not changes:
        return []
    return [f"the attempts differ in {', '.join(sorted(changes))}: case.config is the last one's"]


def _run_id(record: Record) -> str:
    """Stable, and another for another run of the same size."""
    parameters = record["model"]["parameters"]
    content = json.dumps([record["case"]["config"], record["steps"]], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    size = f"{parameters / 1e9:.2f}B-" if parameters else ""
    return f"published-megatron-{size}{digest}"
