"""A log of one MaxText run, made a record."""

import math
from typing import Any

from harness import hardware
from harness.cases import reading
from harness.published import maxtext_lines as lines
from harness.published.document import Document, Imported, blank
from harness.records.figures import WARM_UP_STEPS, summarise
from harness.records.record import Record
from models.decoder import SIZES, ModelConfig, tflop_per_step

KIND = "MaxText log"
SIGN = lines.SIGN

_GIB = 2**30
_NOT_TOLD = (
    "the log does not tell, so null: gradient norms, learning rates, seconds of import, init, "
    "trace, lower, compile and first step alone, aliased and code bytes, peak memory, a digest of "
    "the final state, the program's fingerprints, Python's and the other libraries' versions"
)
_NOT_IN_CONFIG = (
    "case.config holds what the log tells; dropout, quantisation, optimizer and seed of this run "
    "are known by the case's name only"
)
HOST_TIMES = (
    "the log times steps by the host, from one dispatch to the next, not by the device: a single "
    "figure may be far too small or hold a wait for something else, and a median of few is rough"
)
_ROUNDED = (
    "rounded in the log: losses and seconds to 0.001, compiled memory to 0.1 GiB, "
    "memory in use to 0.01 GiB"
)


def read(document: Document) -> Imported:
    """The record of a log; raises UserError for one that is cut short or no run's."""
    name = lines.case_name(document.text)
    impl = lines.implementation(document.text)
    run_id = "-".join(part for part in ("published", name or document.sha256[:8], impl) if part)
    return Imported(KIND, [run_record(document, document.text, KIND, run_id, name, impl)])


def run_record(
    document: Document, text: str, kind: str, run_id: str, name: str | None, impl: str | None
) -> Record:
    """The record of the run that `text`, a document or a part of one, is the log of.

    Raises UserError as `lines.steps` does.
    """
    found = lines.steps(document, text)
    record = blank(
        document,
        run_id,
        kind,
        tflops_per_device=[step.tflops for step in found],
        tokens_per_second_per_device=[step.tokens for step in found],
        figures=[],
        explanation=HOST_TIMES,
    )
    record["impl"] = impl
    record["warnings"] += [HOST_TIMES, _ROUNDED, _NOT_TOLD, _NOT_IN_CONFIG]
    begun, is_told = lines.start(text)
    if begun and not is_told:
        record["warnings"].append("the log's clock is taken as UTC")
    record["environment"] |= {"time": begun.isoformat() if begun else None}
    record["environment"] |= lines.environment(text)
    saved = lines.saves(text)
    record["checkpoint"] |= {"arrays": lines.arrays(text), "saves": saved}
    after_saves = {save["step"] + 1 for save in saved}
    record["steps"] = [
        {
            "step": step.step,
            "loss": step.loss,
            "grad_norm": None,
            "learning_rate": None,
            "step_seconds": step.seconds,
            "total_weights": step.weights,
            "after_save": step.step in after_saves,
        }
        for step in found
    ]
    record["nonfinite_steps"] = sum(step.loss is None for step in found)
    settings = _settings(record, text)
    record["case"] = {"name": name, "hash": None, "config": dict(sorted(settings.items()))}
    if name is None:
        record["warnings"].append("the log names none of our cases: case.name is null")
    _model(record, text, settings)
    _memory(record, text)
    _timing(record, text)
    _flag_impossible(record)
    return record


def _settings(record: Record, text: str) -> dict[str, Any]:
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
    inputs, devices = lines.inputs(text), record["environment"]["device_count"]
    if inputs:
        settings["model.dtype"], sequences, settings["data.sequence_length"] = inputs
        if devices and sequences % devices == 0:
            settings["data.per_device_batch"] = sequences // devices
        else:
            settings["data.global_batch"] = sequences
    saved = [save["step"] for save in record["checkpoint"]["saves"]]
    settings["checkpoint.enabled"] = bool(saved)
    if saved:
        settings["checkpoint.first"] = saved[0] == record["steps"][0]["step"]
        settings |= lines.save_settings(text)
    return settings


def _model(record: Record, text: str, settings: dict[str, Any]) -> None:
    """Counts from the shapes, held against what the log says, rounded."""
    parameters = sum(math.prod(shape) for _, shape in lines.shapes(text).values()) or None
    billions = lines.billion_parameters(text)
    if parameters and billions is not None:
        _compare(record, "billion parameters", billions, round(parameters / 1e9, 3))
    record["model"]["parameters"] = parameters
    dimensions = {
        key.removeprefix("model."): value
        for key, value in settings.items()
        if key.startswith("model.")
    }
    told = lines.total_tflop(text)
    if "embed" not in dimensions or "data.per_device_batch" not in settings or told is None:
        record["model"]["tflop_per_step_per_device"] = told
        return
    try:
        model = ModelConfig(**dimensions)
    except ValueError as error:
        record["warnings"].append(f"the listed shapes are no decoder of ours: {error}")
        return
    if all(getattr(model, name) == getattr(ModelConfig(), name) for name in SIZES["tiny"]):
        record["size"] = "full"
    tflop, attention_percent = tflop_per_step(
        model, settings["data.sequence_length"], settings["data.per_device_batch"]
    )
    _compare(record, "TFLOP per step and device", told, round(tflop, 2))
    record["model"]["tflop_per_step_per_device"] = tflop
    record["model"]["attention_tflop_percent"] = attention_percent


def _memory(record: Record, text: str) -> None:
    for name, gib in lines.compiled_gib(text).items():
        record["memory"][name] = None if gib is None else round(gib * _GIB)
    used = lines.in_use_gib(text)
    record["memory"]["in_use_after_init_bytes"] = round(max(used) * _GIB) if used else None
    device = hardware.find(record["environment"]["device_kind"])
    record["memory"]["capacity_bytes"] = device and device.hbm_bytes


def _timing(record: Record, text: str) -> None:
    """Sums up the steps as for a run of ours: without its first ones and those after a save."""
    timing, kind = record["timing"], record["environment"]["device_kind"]
    timing["wall_seconds"] = lines.wall_seconds(text)
    samples = [
        step["step_seconds"]
        for step in record["steps"][WARM_UP_STEPS:]
        if step["step_seconds"] is not None and not step["after_save"]
    ]
    timing["step_seconds"] = summarise(samples)
    median, tflop = timing["step_seconds"]["median"], record["model"]["tflop_per_step_per_device"]
    if not median:
        return
    weights, devices = record["steps"][-1]["total_weights"], record["environment"]["device_count"]
    if weights and devices:
        timing["tokens_per_second_per_device"] = weights / devices / median
    if tflop:
        timing["tflops_per_device"] = tflop / median
        timing["mfu_percent"] = hardware.mfu_percent(tflop / median, kind)


def _flag_impossible(record: Record) -> None:
    """Keeps rates that no such device can reach, with a warning for each."""
    kind, name = record["environment"]["device_kind"], record["case"]["name"]
    if kind is None:
        return
    quantization = reading.load(name).model.quantization if name else "none"
    for step, rate in zip(record["steps"], record["source"]["tflops_per_device"], strict=True):
        warning = None if rate is None else hardware.above_peak_warning(rate, kind, quantization)
        if warning:
            record["warnings"].append(f"step {step['step']}: {warning}")


def _compare(record: Record, name: str, told: float, counted: float) -> None:
    if not math.isclose(told, counted, rel_tol=1e-9):
        record["warnings"].append(f"the log says {told:g} {name}, its own shapes give {counted:g}")
