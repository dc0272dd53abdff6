"""A log of one MaxText run, made a record."""

import math
from collections.abc import Sequence
from typing import Any

from harness import hardware
from harness.cases import reading
from harness.published import attempts, maxtext_steps, prefixes, telling
from harness.published import maxtext_lines as lines
from harness.published.attempts import Steps, Told
from harness.published.document import Document, Imported, amount, blank, in_bytes
from harness.records.cautions import Caution
from harness.records.record import Record
from harness.terminal.errors import UserError
from models.decoder import SIZES, ModelConfig, tflop_per_step

KIND = "MaxText log"
SIGN = lines.SIGN

_GIB = 2**30
_NOT_TOLD = (
    "seconds of import, init, trace, lower, compile and first step alone, aliased and code bytes, "
    "peak memory, a digest of the final state, the program's fingerprints, Python's and the other "
    "libraries' versions"
)
_NOT_IN_CONFIG = (
    "case.config holds what the log tells; dropout, quantisation, optimizer and seed of this run "
    "are known by the case's name only"
)
HOST_TIMES = (
    "the log times steps by the host, from one dispatch to the next, not by the device: a single "
    "figure may be far too small or hold a wait for something else, and a median of few is rough"
)
_EXCERPT = "an excerpt: the lines with which MaxText begins, and what they tell, are not in it"
_ROUNDED = (
    "rounded in the log: losses and seconds to 0.001, compiled memory to 0.1 GiB, "
    "memory in use to 0.01 GiB"
)


def read(document: Document) -> Imported:
    """The record of a log; raises UserError for one without a whole step."""
    text, hosts = document.text, 1
    if document.lines:
        text, hosts = prefixes.of_one_host(document.lines, maxtext_steps.SIGN)
    name, impl = lines.case_name(text), lines.implementation(text)
    run_id = "-".join(part for part in ("published", name or document.sha256[:8], impl) if part)
    record = run_record(document, text, KIND, run_id, name, impl)
    if hosts > 1:
        record["warnings"].append(f"the log holds the lines of {hosts} hosts: those of one count")
    return Imported(KIND, [record])


def run_record(
    document: Document, text: str, kind: str, run_id: str, name: str | None, impl: str | None
) -> Record:
    """The record of the run that `text`, a document or a part of one, is the log of.

    Raises UserError where it holds no whole step.
    """
    starts = maxtext_steps.starts(text)
    steps = attempts.in_order(maxtext_steps.told(text), starts)
    if not steps.told:
        cut = "" if text.endswith("\n") else ": cut short?"
        raise UserError(f"{document.name}: no completed step in this MaxText log{cut}")
    told = steps.told
    record = blank(
        document,
        run_id,
        kind,
        tflops_per_device=[one.value(*maxtext_steps.TFLOPS) for one in told],
        tokens_per_second_per_device=[one.value(maxtext_steps.TOKENS) for one in told],
        figures=[],
        explanation=HOST_TIMES,
    )
    record["impl"] = impl
    record["warnings"] += [HOST_TIMES, _ROUNDED, *steps.notes, *([] if starts else [_EXCERPT])]
    begun, is_told = lines.start(text)
    if begun and not is_told:
        record["warnings"].append("the log's clock is taken as UTC")
    record["environment"] |= {"time": begun.isoformat() if begun else None}
    record["environment"] |= lines.environment(text)
    saved = lines.saves(text)
    record["checkpoint"] |= {"arrays": lines.arrays(text), "saves": saved}
    _add_steps(record, steps, text)
    settings = _settings(record, steps, text)
    record["case"] = {"name": name, "hash": None, "config": dict(sorted(settings.items()))}
    record["warnings"].append(_NOT_IN_CONFIG)
    if name is None:
        record["warnings"].append("the log names none of our cases: case.name is null")
    _model(record, text, settings)
    _memory(record, text)
    _timing(record, steps, text)
    _flag_impossible(record)
    telling.warn_of_what_is_not_told(record, told, maxtext_steps.NAMES, _NOT_TOLD)
    return record


def _add_steps(record: Record, steps: Steps, text: str) -> None:
    told = steps.told
    after_saves = telling.following(told, [save["step"] for save in record["checkpoint"]["saves"]])
    record["steps"] = [
        {
            **maxtext_steps.metrics(one),
            "step": one.step,
            "loss": one.value(maxtext_steps.LOSS),
            "grad_norm": one.value(maxtext_steps.GRADIENT_NORM),
            "learning_rate": one.value(*maxtext_steps.LEARNING_RATE),
            "step_seconds": amount(one.value(maxtext_steps.SECONDS)),
            "total_weights": telling.whole(one.value(maxtext_steps.WEIGHTS)),
            "after_save": one.step in after_saves,
        }
        for one in told
    ]
    record["nonfinite_steps"] = sum(
        one.is_broken(maxtext_steps.LOSS, maxtext_steps.GRADIENT_NORM) for one in told
    )
    telling.add_rounding(
        record, told, {"loss": maxtext_steps.LOSS, "grad_norm": maxtext_steps.GRADIENT_NORM}
    )
    telling.add_evaluations(record, told, maxtext_steps.evaluations(text))


def _settings(record: Record, steps: Steps, text: str) -> dict[str, Any]:
    """What the log tells of the case, under our keys."""
    settings: dict[str, Any] = {"run.steps": record["steps"][-1]["step"] + 1}
    shapes = lines.shapes(text)
    query = shapes.get("decoder/layers/self_attention/query/kernel", ("", ()))[1]
    key = shapes.get("decoder/layers/self_attention/key/kernel", ("", ()))[1]
    wide = shapes.get("decoder/layers/mlp/wi_0/kernel", ("", ()))[1]
    embedding = shapes.get("token_embedder/embedding", ("", ()))
    if len(query) == 4 and len(key) == 4 and len(wide) == 3 and len(embedding[1]) == 2:
        names = ("embed", "layers", "heads", "head_dim")
        settings |= {f"model.{name}": size for name, size in zip(names, query, strict=True)}
        settings |= {"model.kv_heads": key[2], "model.mlp": wide[2]}
        settings |= {"model.vocab": embedding[1][0], "model.weight_dtype": embedding[0]}
    settings |= _batch(record, steps, text)
    saved = [save["step"] for save in record["checkpoint"]["saves"]]
    settings["checkpoint.enabled"] = bool(saved)
    if saved:
        settings["checkpoint.first"] = saved[0] == record["steps"][0]["step"]
        settings |= lines.save_settings(text)
    return settings


def _batch(record: Record, steps: Steps, text: str) -> dict[str, Any]:
    """Sizes of the batch of a step, which several microbatches of the listed shape may make up."""
    inputs, devices = lines.inputs(text), record["environment"]["device_count"]
    if not inputs:
        return {}
    dtype, sequences, length = inputs
    sizes: dict[str, Any] = {"model.dtype": dtype, "data.sequence_length": length}
    tokens = maxtext_steps.tokens_per_step(steps.told, length) if length else None
    if tokens:
        each = tokens // length
        if devices and each * devices % sequences == 0 and each * devices > sequences:
            record["warnings"].append(
                f"a step takes {each * devices // sequences} microbatches of {sequences} "
                "sequences: its tokens and TFLOP are those of all of them"
            )
        return {**sizes, "data.per_device_batch": each}
    if devices and sequences % devices == 0:
        return {**sizes, "data.per_device_batch": sequences // devices}
    return {**sizes, "data.global_batch": sequences}


def _model(record: Record, text: str, settings: dict[str, Any]) -> None:
    """Counts from the shapes, held against what the log says, rounded."""
    parameters = sum(math.prod(shape) for _, shape in lines.shapes(text).values()) or None
    billions = lines.billion_parameters(text)
    if parameters and billions is not None:
        counted = round(parameters / 1e9, 3)
        if not _agree(record, "billion parameters", billions, counted):
            parameters = None
    record["model"]["parameters"] = parameters
    told = lines.total_tflop(text)
    record["model"]["tflop_per_step_per_device"] = told
    dimensions = {
        key.removeprefix("model."): value
        for key, value in settings.items()
        if key.startswith("model.")
    }
    if "embed" not in dimensions or "data.per_device_batch" not in settings or told is None:
        return
    try:
        model = ModelConfig(**dimensions)
    except ValueError as error:
        record["warnings"].append(f"the listed shapes are not those of the decoder here: {error}")
        return
    if all(getattr(model, name) == getattr(ModelConfig(), name) for name in SIZES["tiny"]):
        record["size"] = "full"
    tflop, attention_percent = tflop_per_step(
        model, settings["data.sequence_length"], settings["data.per_device_batch"]
    )
    if _agree(record, "TFLOP per step and device", told, round(tflop, 2)):
        record["model"]["tflop_per_step_per_device"] = tflop
        record["model"]["attention_tflop_percent"] = attention_percent


def _memory(record: Record, text: str) -> None:
    for name, gib in lines.compiled_gib(text).items():
        record["memory"][name] = in_bytes(gib, _GIB)
    used = max(lines.in_use_gib(text), default=None)
    record["memory"]["in_use_after_init_bytes"] = in_bytes(used, _GIB)
    device = hardware.find(record["environment"]["device_kind"])
    record["memory"]["capacity_bytes"] = device and device.hbm_bytes


def _timing(record: Record, steps: Steps, text: str) -> None:
    """Sums up the steps as for a run of ours: without warm-up and what holds something else."""
    timing, kind = record["timing"], record["environment"]["device_kind"]
    timing["wall_seconds"] = lines.wall_seconds(text)
    smaller = {one.step for one in steps.told if one.phase}
    samples = telling.add_step_seconds(record, steps, smaller)
    median, tflop = timing["step_seconds"]["median"], record["model"]["tflop_per_step_per_device"]
    if not median:
        return
    timing["tokens_per_second_per_device"] = _tokens_per_second(record, steps, samples, median)
    timing["tflops_per_device"] = (
        tflop / median if tflop else telling.median(samples, *maxtext_steps.TFLOPS)
    )
    rate = timing["tflops_per_device"]
    timing["mfu_percent"] = None if rate is None else hardware.mfu_percent(rate, kind)


def _tokens_per_second(
    record: Record, steps: Steps, samples: Sequence[Told], median: float
) -> float | None:
    """From the log's own rates: a step's weights leave out padding, a device computes it, too."""
    timed = [one for one in steps.told if one.value(maxtext_steps.SECONDS) is not None]
    told = [one for one in timed if maxtext_steps.TOKENS in one.fields]
    if told and len(told) < len(timed):
        record["warnings"].append(
            f"only {len(told)} of {len(timed)} timed steps tell a rate of tokens, as while the "
            "batch grows: tokens_per_second_per_device is null"
        )
        return None
    length = record["case"]["config"].get("data.sequence_length") or 1
    tokens = maxtext_steps.tokens_per_step(told, length)
    return tokens / median if tokens else telling.median(samples, maxtext_steps.TOKENS)


def _flag_impossible(record: Record) -> None:
    """Keeps rates that no such device can reach, with a warning for each."""
    kind, name = record["environment"]["device_kind"], record["case"]["name"]
    quantization = reading.load(name).model.quantization if name else "none"
    peak = hardware.peak_tflops(kind, quantization)
    if peak is None:
        return
    for step, rate in zip(record["steps"], record["source"]["tflops_per_device"], strict=True):
        if rate is not None and rate > peak:
            told = Caution.ABOVE_PEAK.told(rate=rate, kind=kind, peak=peak)
            record["warnings"].append(f"step {step['step']}: {told}")


def _agree(record: Record, name: str, told: float, counted: float) -> bool:
    """Whether the log says what its own shapes give, as far as it prints it; a warning if not."""
    if math.isclose(told, counted, rel_tol=1e-9):
        return True
    record["warnings"].append(f"the log says {told:g} {name}, its own shapes give {counted:g}")
    return False
