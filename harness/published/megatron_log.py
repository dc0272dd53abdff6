"""A log of Megatron-LM: its arguments, each rank's parameters and memory, and its pipeline."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from harness.cases import reading
from harness.errors import UserError
from harness.published import megatron_arguments, pipeline_schedule
from harness.published import megatron_counts as counts
from harness.published.document import (
    NUMBER,
    Document,
    Imported,
    blank,
    facing,
    figure,
    first,
    number,
)
from harness.published.pipeline_schedule import Check, Event, Operation, Shape
from harness.records.figures import WARM_UP_STEPS, summarise
from harness.records.record import Record

KIND = "Megatron-LM log"
SIGN = megatron_arguments.BEGIN

_MIB = 2**20
_MOST_PASSES = 100_000  # of one iteration: more is no pipeline that ever ran
_VOCAB = re.compile(
    r"padded vocab \(size: [0-9]{1,12}\) with [0-9]{1,9} dummy tokens \(new size: ([0-9]{1,9})\)"
)
_PARAMETERS = re.compile(
    r"number of parameters on \(tensor, pipeline\) model parallel rank "
    r"\(([0-9]{1,6}), ([0-9]{1,6})\): ([0-9]{1,15})"
)
_MEMORY = re.compile(
    rf"\[Rank ([0-9]{{1,6}})\] \(after [0-9]{{1,9}} iterations\) memory \(MB\) \| "
    rf"allocated: {NUMBER} \| max allocated: {NUMBER} \| reserved: {NUMBER} \| "
    rf"max reserved: {NUMBER}"
)
_ITERATION = re.compile(r"(?<![\w(])iteration {1,9}([0-9]{1,9})/ {0,9}[0-9]{1,9} \|([^\n]{0,1000})")
_EVENT = re.compile(r"rank ([0-9]{1,6}) (forward|backward) (start|finished) tensor ([0-9]{1,9})")
_ESTIMATE = r"[:=] {0,9}([0-9]{1,12}\.[0-9]{1,6})"


def read(document: Document) -> Imported:
    """The record of a log; raises UserError when it ends before one iteration is over."""
    arguments = megatron_arguments.read(document)
    vocab = int(first(_VOCAB, document.text) or 0)
    iterations = list(_ITERATION.finditer(document.text))
    if not iterations:
        raise UserError(f"{document.name}: no iteration finished in this Megatron log: cut short?")
    total = None
    if vocab and counts.is_covered(arguments):
        total = counts.total_parameters(arguments, vocab)
    size = f"{total / 1e9:.2f}B" if total else document.sha256[:8]
    record = blank(
        document,
        f"published-megatron-{size}",
        KIND,
        figures=[],
        explanation="Figures are set beside what the log's own arguments give.",
        settings=megatron_arguments.our_settings(arguments, vocab),
        ranks=_ranks(document.text, arguments, vocab if total else 0),
        schedule=[],
    )
    record["case"]["config"] = arguments
    record["environment"] |= {
        "device_count": arguments["world_size"],
        "process_count": arguments["world_size"],
    }
    record["model"]["parameters"] = total
    record["warnings"] = [
        "the log does not tell, so null: device kind, versions, time zone, gradient norms, "
        "compiled memory, everything about programs and checkpoints",
        "steps count from 0 here, the log's iterations from 1",
        "arguments other than numbers and known words are not taken over",
    ]
    ranks = record["source"]["ranks"]
    largest = [rank["max_allocated_bytes"] for rank in ranks if rank["max_allocated_bytes"]]
    record["memory"]["peak_in_use_bytes"] = max(largest, default=None)
    record["model"]["parameters_per_device"] = max(
        (rank["parameters"] for rank in ranks if rank["parameters"]), default=None
    )
    record["warnings"].append("parameters per device and peak memory are those of the largest rank")
    _add_steps(record, iterations)
    findings = [f"parameters: {total:,}" if total else "parameters: not counted for such a model"]
    findings += _rank_findings(record, arguments["world_size"])
    findings += _add_figures(record, document.text, arguments, vocab if total else 0)
    findings += _add_schedule(record, document.text, arguments, iterations)
    ours = reading.flatten(reading.load("01_baseline"))
    findings += ["settings that 01_baseline has too:", *facing(ours, record["source"]["settings"])]
    return Imported(KIND, [record], findings)


def _ranks(text: str, arguments: dict[str, Any], vocab: int) -> list[dict[str, Any]]:
    """Parameters and memory of every rank that the log tells of."""
    per_stage = arguments["world_size"] // arguments["pipeline_model_parallel_size"]
    told: dict[int, dict[str, Any]] = {}
    for match in _PARAMETERS.finditer(text):
        part, stage, parameters = map(int, match.groups())
        told.setdefault(stage * per_stage + part, {})["parameters"] = parameters
    for match in _MEMORY.finditer(text):
        megabytes = [number(value) for value in match.groups()[1:]]
        names = ("allocated", "max_allocated", "reserved", "max_reserved")
        told.setdefault(int(match[1]), {}).update(
            {
                f"{name}_bytes": None if value is None else round(value * _MIB)
                for name, value in zip(names, megabytes, strict=True)
            }
        )
    keys = ("allocated_bytes", "max_allocated_bytes", "reserved_bytes", "max_reserved_bytes")
    return [
        {
            "rank": rank,
            "parameters": known.get("parameters"),
            "parameters_recomputed": counts.rank_parameters(arguments, vocab, rank // per_stage)
            if vocab
            else None,
            **{key: known.get(key) for key in keys},
        }
        for rank, known in sorted(told.items())
    ]


def _add_steps(record: Record, iterations: Sequence[re.Match[str]]) -> None:
    """One step per iteration, once each, in order."""
    entries = {}
    for match in iterations:
        fields = match[2]
        milliseconds = _field(fields, "elapsed time per iteration (ms)")
        entries[int(match[1]) - 1] = {
            "step": max(int(match[1]) - 1, 0),
            "loss": _field(fields, "lm loss"),
            "grad_norm": _field(fields, "grad norm"),
            "learning_rate": _field(fields, "learning rate"),
            "step_seconds": None if milliseconds is None else milliseconds / 1e3,
            "total_weights": None,
            "after_save": False,
        }
    record["steps"] = [entries[step] for step in sorted(entries)]
    samples = [
        step["step_seconds"]
        for step in record["steps"][WARM_UP_STEPS:]
        if step["step_seconds"] is not None
    ]
    record["timing"]["step_seconds"] = summarise(samples)
    skipped, nan = (
        sum(int(_field(match[2], f"number of {kind} iterations") or 0) for match in iterations)
        for kind in ("skipped", "nan")
    )
    scale = _field(iterations[-1][2], "loss scale")
    record["source"] |= {
        "skipped_iterations": skipped, "nan_iterations": nan, "loss_scale": scale,
    }  # fmt: skip
    if skipped:
        record["warnings"].append(
            f"{skipped} of {len(entries)} iterations skipped at a loss scale of {scale:g}: a "
            "scaled gradient overflowed, the loss is not told"
        )


def _field(fields: str, name: str) -> float | None:
    match = re.search(rf"(?:\A|\|) {{0,9}}{re.escape(name)}: {{0,19}}{NUMBER}", fields)
    return number(match[1]) if match else None


def _rank_findings(record: Record, world_size: int) -> list[str]:
    ranks = record["source"]["ranks"]
    lines = []
    for rank in ranks:
        said, counted = rank["parameters"], rank["parameters_recomputed"]
        peak = rank["max_allocated_bytes"]
        words = [f"rank {rank['rank']}:"]
        if said is not None:
            words.append(f"{said:,} parameters,")
        if said is not None and counted is not None:
            verdict = "equal" if said == counted else f"different: counted {counted:,}"
            words.append(f"{verdict};")
            if said != counted:
                record["warnings"].append(f"parameters of rank {rank['rank']}: {verdict}")
        words.append("peak memory not told" if peak is None else f"peak {peak / _MIB:,.1f} MiB")
        lines.append(" ".join(words))
    if len(ranks) < world_size:
        lines.append(f"{world_size - len(ranks)} of {world_size} ranks are not told of")
        record["warnings"].append(lines[-1])
    return lines


def _add_figures(record: Record, text: str, arguments: dict[str, Any], vocab: int) -> list[str]:
    """Sets the log's estimates beside the same from its arguments."""
    theory = counts.theory(arguments, vocab) if vocab else {}
    lines = []
    for name, exact in theory.items():
        told = first(re.compile(re.escape(name) + _ESTIMATE), text)
        if told is None:
            continue
        said, counted = float(told), round(exact, len(told.partition(".")[2]))
        record["source"]["figures"].append(figure(name, "Megatron's estimate", said, counted))
        verdict = "equal" if said == counted else "different"
        lines.append(f"{name}: the log says {said:g}, recomputed {counted}: {verdict}")
        if said != counted:
            record["warnings"].append(lines[-1])
    return lines


def _add_schedule(
    record: Record, text: str, arguments: dict[str, Any], iterations: Sequence[re.Match[str]]
) -> list[str]:
    """Checks each iteration that left events, the unfinished one too."""
    shape = _shape(arguments)
    if shape is None:
        return ["schedule: too large to check, or no whole number of microbatches"]
    ends = [0, *(match.start() for match in iterations), len(text)]
    lines = []
    for place, (begin, end) in enumerate(pairwise(ends)):
        complete = place < len(iterations)
        events = [
            Event(int(match[1]), Operation(match[2], int(match[4])), match[3])
            for match in _EVENT.finditer(text, begin, end)
        ]
        if not events:
            continue
        iteration = int(iterations[place][1]) if complete else int(iterations[-1][1]) + 1
        check = pipeline_schedule.check(shape, events, complete)
        record["source"]["schedule"].append(_schedule_entry(iteration, complete, events, check))
        unfinished = "" if complete else " (unfinished)"
        line = f"iteration {iteration}{unfinished}: {check.events} events"
        line += f", {check.mismatches} mismatches"
        if check.checked < check.events:
            line += f" in the {check.checked} of the last stage"
        if check.disagreement:
            line += f"; peers part at {check.disagreement}"
        elif check.first_mismatch:
            line += f"; first: {check.first_mismatch}"
        lines.append(line)
        if check.mismatches or check.disagreement:
            record["warnings"].append(line)
    return lines


def _shape(arguments: dict[str, Any]) -> Shape | None:
    stages = arguments["pipeline_model_parallel_size"]
    chunks = arguments.get("virtual_pipeline_model_parallel_size")
    chunks = chunks if type(chunks) is int and chunks > 0 else 1
    each = arguments["micro_batch_size"] * arguments["data_parallel_size"]
    microbatches, rest = divmod(arguments["global_batch_size"], each)
    if rest or not 1 <= microbatches * chunks <= _MOST_PASSES:
        return None
    return Shape(
        stages=stages,
        chunks=chunks,
        microbatches=microbatches,
        tensor_parallel=arguments["tensor_model_parallel_size"],
        ranks_per_stage=arguments["world_size"] // stages,
    )


def _schedule_entry(
    iteration: int, complete: bool, events: Sequence[Event], check: Check
) -> dict[str, Any]:
    orders = pipeline_schedule.orders(events)
    return {
        "iteration": max(iteration, 1),
        "complete": complete,
        "events": check.events,
        "checked": check.checked,
        "mismatches": check.mismatches,
        "first_mismatch": check.first_mismatch,
        "disagreement": check.disagreement,
        "orders": {
            str(rank): " ".join(f"{one.direction[0].upper()}{one.tensor}" for one in order)
            for rank, order in orders.items()
        },
    }
