"""A Megatron-LM log held against itself: ranks, estimates and schedule beside its arguments."""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from harness.published import megatron_counts as counts
from harness.published import megatron_lines, pipeline_schedule
from harness.published.attempts import Told
from harness.published.document import figure, first
from harness.published.pipeline_schedule import Check, Event, Operation, Shape
from harness.records.record import Record

_MIB = 2**20
_MOST_PASSES = 100_000  # of one iteration: more is no pipeline that ever ran
_EVENT = re.compile(r"rank ([0-9]{1,6}) (forward|backward) (start|finished) tensor ([0-9]{1,9})")
_ESTIMATE = r"[:=] {0,9}([0-9]{1,12}\.[0-9]{1,6})"
_MEMORY = ("allocated_bytes", "max_allocated_bytes", "reserved_bytes", "max_reserved_bytes")


def add_parameters(
    record: Record, text: str, arguments: dict[str, Any], unread: Collection[str], vocab: int
) -> list[str]:
    """Counts by formula, held against what the ranks say; returns what was found, as lines.

    Where both differ the ranks' own number is the model's, if each rank holds the whole model.
    """
    reason = counts.why_not_counted(arguments, unread, vocab)
    total = None if reason else counts.total_parameters(arguments, vocab)
    ranks = _ranks(text, arguments, 0 if reason else vocab)
    record["source"]["ranks"] = ranks
    findings = _rank_findings(record, arguments.get("world_size"))
    told = [rank["parameters"] for rank in ranks if rank["parameters"] is not None]
    pairs = [(rank["parameters"], rank["parameters_recomputed"]) for rank in ranks]
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        total, reason = None, "what the ranks hold is not what the arguments give"
    if total is None and told and counts.lies_on_one_rank(arguments) and len(set(told)) == 1:
        total = told[0]
        record["warnings"].append(f"model.parameters is what the log says of one rank: {reason}")
    elif reason:
        record["warnings"].append(f"model.parameters is null: {reason}")
    record["model"]["parameters"] = total
    record["model"]["parameters_per_device"] = max(told, default=None)
    largest = [rank["max_allocated_bytes"] for rank in ranks if rank["max_allocated_bytes"]]
    record["memory"]["peak_in_use_bytes"] = max(largest, default=None)
    if told or largest:
        record["warnings"].append(
            "parameters per device and peak memory are those of the largest rank"
        )
    counted = f"parameters: {total:,}" if total else f"parameters: not counted: {reason}"
    estimates = {} if total is None or reason else counts.theory(arguments, vocab)
    return [counted, *findings, *_add_figures(record, text, estimates)]


def add_schedule(
    record: Record, text: str, arguments: dict[str, Any], attempt: Sequence[Told]
) -> list[str]:
    """Checks each iteration that left events, the unfinished one too.

    `attempt` are the iterations' lines in `text`.
    """
    shape = _shape(arguments)
    if shape is None or not _EVENT.search(text):
        return []
    ends = [0, *(one.at for one in attempt), len(text)]
    found = []
    for place, (begin, end) in enumerate(pairwise(ends)):
        complete = place < len(attempt)
        events = [
            Event(int(match[1]), Operation(match[2], int(match[4])), match[3])
            for match in _EVENT.finditer(text, begin, end)
        ]
        if not events:
            continue
        iteration = attempt[place].step + 1 if complete else attempt[-1].step + 2
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
        found.append(line)
        if check.mismatches or check.disagreement:
            record["warnings"].append(line)
    return found


def _ranks(text: str, arguments: dict[str, Any], vocab: int) -> list[dict[str, Any]]:
    """Parameters and memory of every rank that the log tells of."""
    world, stages = arguments.get("world_size"), arguments.get("pipeline_model_parallel_size", 1)
    per_stage = world // stages if world else None
    return [
        {
            "rank": rank,
            "parameters": known.get("parameters"),
            "parameters_recomputed": counts.rank_parameters(arguments, vocab, rank // per_stage)
            if vocab and per_stage
            else None,
            **{key: known.get(key) for key in _MEMORY},
        }
        for rank, known in megatron_lines.ranks(text, per_stage).items()
    ]


def _rank_findings(record: Record, world_size: int | None) -> list[str]:
    ranks = record["source"]["ranks"]
    found = []
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
        found.append(" ".join(words))
    if ranks and world_size and len(ranks) < world_size:
        found.append(f"{world_size - len(ranks)} of {world_size} ranks are not told of")
        record["warnings"].append(found[-1])
    return found


def _add_figures(record: Record, text: str, theory: dict[str, float]) -> list[str]:
    """Sets the log's estimates beside the same from its arguments."""
    found = []
    for name, exact in theory.items():
        told = first(re.compile(re.escape(name) + _ESTIMATE), text)
        if told is None:
            continue
        said, counted = float(told), round(exact, len(told.partition(".")[2]))
        record["source"]["figures"].append(figure(name, "Megatron's estimate", said, counted))
        verdict = "equal" if said == counted else "different"
        found.append(f"{name}: the log says {said:g}, recomputed {counted}: {verdict}")
        if said != counted:
            record["warnings"].append(found[-1])
    return found


def _shape(arguments: dict[str, Any]) -> Shape | None:
    """Of the pipeline; None where the arguments do not tell it."""
    names = (
        "pipeline_model_parallel_size", "micro_batch_size", "data_parallel_size",
        "global_batch_size", "tensor_model_parallel_size", "world_size",
    )  # fmt: skip
    if not all(name in arguments for name in names):
        return None
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
