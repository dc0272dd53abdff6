"""What cannot be true of a record as this program writes it."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness import hardware
from harness.cases import reading

Record = dict[str, Any]
_OWN = ("completed", "failed", "preempted")  # the status of what was trained here
_CLOSE = 1e-6  # of figures that follow from each other


def contradiction(record: Record) -> str | None:
    """The first thing in a valid record that contradicts another one, None where all agree."""
    is_own = record["status"] in _OWN
    for tells in (*_ANY, *(_TRAINED if is_own else ())):
        for told in tells(record):
            return told
    return None


def is_nonfinite(step: Mapping[str, Any]) -> bool:
    """Whether a step counts among those whose loss or gradient norm was not finite."""
    return step["loss"] is None or (step["grad_norm"] is None and not step.get("skipped"))


def _order(record: Record) -> Iterator[str]:
    numbers = [entry["step"] for entry in record["steps"]]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        yield "its steps are not in order"
    evals = [entry["step"] for entry in record.get("evals", ())]
    if any(later <= earlier for earlier, later in itertools.pairwise(evals)):
        yield "its evaluations are not in order"


def _summary(record: Record) -> Iterator[str]:
    """How the step times sum up."""
    summary = record["timing"]["step_seconds"]
    known = [entry["step_seconds"] for entry in record["steps"]]
    known = [seconds for seconds in known if seconds is not None]
    quantiles = [summary[name] for name in ("p10", "median", "p90") if summary[name] is not None]
    if quantiles != sorted(quantiles):
        yield "its p10, median and p90 are not in order"
    if known and any(not min(known) <= value <= max(known) for value in quantiles):
        yield "its median lies outside the times of its steps"
    if (summary["samples"] or 0) > len(record["steps"]) > 0:
        yield "it counts more samples than steps"


def _memory(record: Record) -> Iterator[str]:
    memory = record["memory"]
    parts = [memory[f"{name}_bytes"] for name in ("argument", "output", "temp", "alias", "total")]
    if None not in parts and parts[0] + parts[1] + parts[2] - parts[3] != parts[4]:
        yield "memory.total_bytes is not the sum of its parts"


def _model(record: Record) -> Iterator[str]:
    whole, share = (record["model"][key] for key in ("parameters", "parameters_per_device"))
    if None not in (whole, share) and share > whole:
        yield "a device has more parameters than the model"


def _turns(record: Record) -> Iterator[str]:
    turns = record.get("turns")
    if turns is None:
        return
    counts = {turns["order"].count(letter) for letter in "AB"}
    if counts != {len(turns["blocks"])}:
        yield "turns.order has not as many blocks as turns.blocks"
    if turns["partner"] == record["run_id"]:
        yield "it took turns with itself"


def _hash(record: Record) -> Iterator[str]:
    case = record["case"]
    config, size, recipe = case["config"], record["size"], record["recipe"]
    if not config or None in (case["hash"], size, recipe) or config.get("data.tokens") is not None:
        return
    if reading.config_hash(config, size, recipe) != case["hash"]:
        yield "case.config, size and recipe are not those of case.hash"


def _mesh(record: Record) -> Iterator[str]:
    environment = record["environment"]
    mesh, count = environment.get("mesh"), environment["device_count"]
    if mesh and count is not None and math.prod(mesh.values()) != count:
        yield "environment.mesh has not environment.device_count devices"


def _wire(record: Record) -> Iterator[str]:
    program = record["program"]
    kinds, whole = program["collectives"], program["wire_bytes"]
    if kinds is not None and whole is not None:
        parts = sum(kind["bytes"] for kind in kinds.values())
        if not math.isclose(parts, whole, rel_tol=_CLOSE, abs_tol=1):
            yield "program.wire_bytes is not the sum of its collectives"


def _outcome(record: Record) -> Iterator[str]:
    if (record["error"] is None) != (record["status"] == "completed"):
        yield f"it is {record['status']}, and error is {record['error']!r:.60}"


def _steps(record: Record) -> Iterator[str]:
    """Which steps there are; one that failed may have failed for lacking some."""
    if record["status"] == "failed":
        return
    steps = [entry["step"] for entry in record["steps"]]
    restored = record["checkpoint"]["restored_from"] is not None
    if any(later != earlier + 1 for earlier, later in itertools.pairwise(steps)):
        yield "steps are missing between its first and its last"
    wanted = record["case"]["config"].get("run.steps")
    is_done = steps[-1] == wanted - 1 if steps and wanted is not None else restored or not wanted
    if record["status"] == "completed" and not is_done:
        yield f"it is completed, and its last step is not that of run.steps={wanted}"
    if steps and steps[0] and not restored:
        yield "it began with no state of another run, and lacks step 0"
    lost = {save["step"] for save in record["checkpoint"]["saves"]} - {*steps}
    if record["status"] == "preempted" and record["attempts"] and steps:
        # Begun again before a checkpoint that was damaged, and stopped before it was there again.
        lost = {step for step in lost if step < steps[-1]}
    if lost:
        yield f"it saved step {min(lost)}, which it has not"


def _nonfinite(record: Record) -> Iterator[str]:
    found, counted = sum(map(is_nonfinite, record["steps"])), record["nonfinite_steps"]
    is_sum = not record["attempts"]  # older versions counted those of the last start
    if counted is not None and (counted > found or (counted < found and is_sum)):
        yield f"it counts {counted} steps that are not finite, of {found}"


def _rates(record: Record) -> Iterator[str]:
    """What follows from the median step, and what no device can do."""
    timing, case = record["timing"], record["case"]
    median, rate = timing["step_seconds"]["median"], timing["tflops_per_device"]
    kind, devices = (record["environment"][key] for key in ("device_kind", "device_count"))
    tflop, tokens = record["model"]["tflop_per_step_per_device"], None
    batch, length = case.get("global_batch"), case["config"].get("data.sequence_length")
    if None not in (batch, length, devices):
        tokens = batch * length / devices
    if not _follows(rate, tflop, median):
        yield "timing.tflops_per_device is not that of its median step"
    if not _follows(timing["tokens_per_second_per_device"], tokens, median):
        yield "timing.tokens_per_second_per_device is not that of its median step"
    if rate is None:
        return
    if not _follows(timing["mfu_percent"], hardware.mfu_percent(rate, kind), 1.0):
        yield "timing.mfu_percent is not that of timing.tflops_per_device"
    peak = max(hardware.peak_tflops(kind, how) or math.inf for how in ("int8", "fp8"))
    if rate > peak and not any("above the peak" in warning for warning in record["warnings"]):
        yield f"timing.tflops_per_device is above the peak of {kind}, and no warning says so"


def _follows(rate: float | None, amount: float | None, seconds: float | None) -> bool:
    """Whether a rate is that amount in that time, as far as all are known."""
    if rate is None or amount is None or seconds is None:
        return True
    return math.isclose(rate * seconds, amount, rel_tol=_CLOSE)


_ANY: tuple[Callable[[Record], Iterator[str]], ...] = (
    *(_order, _summary, _memory, _model, _turns, _hash, _mesh, _wire),
)
_TRAINED = (_outcome, _steps, _nonfinite, _rates)
