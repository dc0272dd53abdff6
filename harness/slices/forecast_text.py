"""A forecast as text: for a terminal, and as the rows of a table in Markdown."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from harness import hlo
from harness.hlo import Program, buffers, parts
from harness.records.record import Record
from harness.slices.forecast import Forecast
from harness.terminal.text import GIB, aligned, capped, gib, safe, size
from harness.training import accounting

_SHOWN = 8
_DIFFERENCES = 12
_UNNAMED = "  the family names no parts: by the topmost module of each operation's path"
_KEYS = re.compile(r"\['(\w+)'\]")


def describe(forecast: Forecast) -> str:
    """Everything about one forecast, line by line."""
    record, program = forecast.record, forecast.program
    if program is None:
        return _model(forecast)
    lines = [_model(forecast), _memory(forecast), _buffers(program), _collectives(program)]
    return "\n".join([*lines, _compute(forecast, program), _prediction(record)])


def fit(forecast: Forecast) -> str:
    """One line: whether the step fits, what is left, and how long it should take."""
    question, record = forecast.question, forecast.record
    what = f"{question.case.shown} on {question.on.name}"
    if record["error"] is not None:
        return f"{what}: {record['error']}"
    capacity = record["memory"]["capacity_bytes"]
    needed, left = forecast.needed_bytes, capacity - forecast.needed_bytes
    verdict = "fits" if forecast.fits else "does not fit"
    seconds = record["prediction"]["step_seconds"]
    step = f"; predicted step: {seconds:.4f} s" if seconds else ""
    return (
        f"{what}: {verdict}: {size(needed)} of a device's {capacity / GIB:.1f} GiB,"
        f" headroom {size(left)} ({100 * left / capacity:.1f} %){step}"
    )


def both_states(first: Forecast, second: Forecast) -> str:
    """One line: whether a device holds the states of both, as it must for turns."""
    names = f"{first.question.impl} and {second.question.impl} in turns"
    memory = first.record["memory"]
    needed = accounting.both_bytes(memory, second.record["memory"])
    if needed is None:
        return f"{names}: no, as one alone does not fit"
    verdict = "fit" if needed <= memory["capacity_bytes"] else "do not fit"
    return f"{names}: both states {verdict}: {size(needed)}"


def same_program(first: Forecast, second: Forecast) -> str:
    """What proves that two implementations are one program, or each difference."""
    names = f"{first.question.impl} and {second.question.impl}"
    ids = [one.record["program"]["optimized_sha256"] for one in (first, second)]
    if first.stablehlo_sha256 == second.stablehlo_sha256:
        lowered = first.record["program"]["stablehlo_sha256"][:12]
        optimised = f", compiled once into {ids[0][:12]}" if ids[0] else ""
        return f"{names}: the same program: one lowered text {lowered}{optimised}"
    if first.program is None or second.program is None:
        return f"{names}: lowered to different texts; not compared further, as one does not fit"
    found = hlo.diff(first.program, second.program)
    if not found:
        return f"{names}: the same program: lowered apart, optimised into one, {ids[0][:12]}"
    counts = Counter(difference.kind for difference in found)
    kinds = ", ".join(f"{kind} ({counts[kind]})" for kind in hlo.KINDS if counts[kind])
    listed = capped([str(difference) for difference in found], _DIFFERENCES)
    return "\n".join([f"{names}: different programs; what differs is {kinds}:", *listed])


def scaling(forecasts: Sequence[Forecast]) -> str:
    """Cost against chips, one row per slice."""
    headings = "slice chips memory wire,GB Mcycles step,s tokens/s/chip chip-s/Mtoken"
    rows: list[tuple[str, ...]] = [tuple(headings.split())]
    for forecast in forecasts:
        record, case = forecast.record, forecast.question.case
        name, chips = forecast.question.on.name, forecast.question.on.chips
        if forecast.program is None:
            rows.append((name, str(chips), "does not fit", *[""] * 5))
            continue
        seconds = record["prediction"]["step_seconds"]
        tokens = forecast.sequences * case.data.sequence_length
        rows.append(
            (
                name,
                str(chips),
                size(record["memory"]["total_bytes"]),
                f"{record['program']['wire_bytes'] / 1e9:.3f}",
                f"{record['program']['fusion_cycles'] / 1e6:.2f}",
                f"{seconds:.4f}" if seconds else "-",
                f"{tokens / seconds / chips:,.0f}" if seconds else "-",
                f"{1e6 * seconds * chips / tokens:.1f}" if seconds else "-",
            )
        )
    return "\n".join(["cost against chips", *_table(rows)])


def markdown(forecasts: Sequence[Forecast]) -> str:
    """A page with a row for each case, slice and implementation, and the model's known errors."""
    rows = [_HEADINGS, [*["---"] * 3, *["---:"] * 9, "---"]]
    rows += [_row(forecast) for forecast in forecasts]
    made = forecasts[0].record["environment"]
    checked = [f"- {line.strip()}" for line in _checked(forecasts)]
    return "\n".join(
        [
            "# What each case needs and does on TPU slices",
            "",
            "Compiled by libtpu for slices that were not there; nothing ran. Sizes, bytes and"
            " cycles are per device and step, loop trip counts applied. Rows with one program (the"
            " first letters of its fingerprint) run the very same operations. ~: a time that the"
            " published runs cannot check, as more than one ring carries its collectives. ≈: not"
            " exact, for a reason given below.",
            "",
            f"Made with JAX {made['jax']}, libtpu {made['libtpu']}, flax {made['flax']}, by"
            " `make preflight`; the records lie beside this page.",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *_inexact(forecasts),
            "The step-time model on the published runs, from MaxText's compiled programs:",
            "",
            *checked,
        ]
    )


_HEADINGS = [
    *("case", "slice", "implementation"),
    *("argument GiB", "output GiB", "temp GiB", "total GiB", "code GiB", "headroom GiB"),
    *("wire GB", "Mcycles", "predicted s", "program"),
]


def _row(forecast: Forecast) -> list[str]:
    question, record = forecast.question, forecast.record
    row = [question.case.shown, question.on.name, question.impl]
    if forecast.program is None:
        return [*row, str(record["error"]), *[""] * (len(_HEADINGS) - 4)]
    memory, found = record["memory"], record["program"]
    kinds = ("argument", "output", "temp", "total", "generated_code")
    sizes = [memory[f"{kind}_bytes"] for kind in kinds]
    sizes.append(memory["capacity_bytes"] - forecast.needed_bytes)
    predicted = record["prediction"]
    seconds, unchecked = predicted["step_seconds"], "~" if predicted.get("caution") else ""
    about = "≈" if found["inexact"] else ""
    row += map(gib, sizes)
    row += [f"{about}{found['wire_bytes'] / 1e9:.4f}", f"{about}{found['fusion_cycles'] / 1e6:.2f}"]
    row += [f"{about}{unchecked}{seconds:.4f}" if seconds else "-"]
    return [*row, f"`{found['optimized_sha256'][:12]}`"]


def _inexact(forecasts: Sequence[Forecast]) -> list[str]:
    """Why the counts of some programs are not exact, each said once."""
    said = {
        f"- {forecast.question.case.shown} on {forecast.question.on.name}: {line}": None
        for forecast in forecasts
        for line in forecast.record["program"].get("inexact", [])
    }
    return [*said, ""] if said else []


def _checked(forecasts: Sequence[Forecast]) -> list[str]:
    """What the first forecast with a prediction says of the model's errors."""
    for forecast in forecasts:
        if forecast.record["prediction"].get("checked_against"):
            return _errors(forecast.record)
    return []


def _model(forecast: Forecast) -> str:
    model = forecast.record["model"]
    tflop = model["tflop_per_step_per_device"]
    return (
        f"it keeps {model['parameters_per_device']:,} of {model['parameters']:,} parameters,"
        f" state {size(forecast.state_bytes)},"
        f" {'unknown' if tflop is None else f'{tflop:.4f}'} TFLOP a step,"
        f" attention {model['attention'] or 'its own'}"
    )


def _memory(forecast: Forecast) -> str:
    memory = forecast.record["memory"]
    kinds = ("argument", "output", "temp", "alias", "generated_code", "total")
    sizes = ", ".join(f"{kind} {size(memory[f'{kind}_bytes'])}" for kind in kinds)
    needed = size(forecast.needed_bytes)
    return f"memory: {sizes} (argument + output + temp - alias); with generated_code {needed}"


def _buffers(program: Program) -> str:
    moment = buffers.fullest(program)
    alike: Counter[tuple[str, str]] = Counter()
    for buffer in moment.buffers:
        alike[buffer.shape, buffer.where] += buffer.bytes
    rows = [
        (size(count), safe(shape, 60), where) for (shape, where), count in alike.most_common(_SHOWN)
    ]
    heading = (
        f"temporaries at their fullest ({size(moment.bytes)} by the schedule, at {moment.where}):"
    )
    return "\n".join([heading, *_table(rows)])


def _collectives(program: Program) -> str:
    totals: defaultdict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for found in hlo.list_collectives(program):
        tensor = "/".join(_KEYS.findall(found.argument)) or hlo.where(found.op_name)
        row = totals[found.kind, found.dtype, safe(found.shape, 60), tensor]
        row[0] += found.times
        row[1] += found.wire_bytes
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    rows = [
        (kind, dtype, f"{count} x", shape, f"{wire / 1e9:.4f}", tensor)
        for (kind, dtype, shape, tensor), (count, wire) in ordered
    ]
    total = sum(wire for _, wire in totals.values())
    heading = f"on the wire: {total / 1e9:.4f} GB a step; by tensor, GB:"
    return "\n".join([heading, *_table(rows)])


def _compute(forecast: Forecast, program: Program) -> str:
    by_part = forecast.record["prediction"]["cycles_by_part"]
    total = sum(by_part.values())
    rows = [
        (part, f"{cycles / 1e6:.3f}", f"{100 * cycles / total:.1f} %")
        for part, cycles in by_part.items()
    ]
    largest = [
        (f"{cost.cycles / 1e6:.3f}", f"{cost.times} x", cost.opcode, safe(cost.shape, 60),
         cost.part, cost.where)
        for cost in parts.list_costs(program, forecast.parts)[:_SHOWN]
    ]  # fmt: skip
    uncosted = ", ".join(
        f"{count} {what.replace('_', ' ')}" for what, count in hlo.uncosted(program).items()
    )
    products = sum(matmul.flops for matmul in hlo.matmuls(program)) / 1e12
    return "\n".join(
        [
            f"compute: {total / 1e6:.3f} million cycles a step, as the compiler estimates them;"
            f" matrix products: {products:.4f} TFLOP; by part, million cycles:",
            *([_UNNAMED] if forecast.parts is None else []),
            *_table(rows),
            "largest operations, million cycles:",
            *_table(largest),
            f"without an estimate, and in none of these: {uncosted}",
        ]
    )


def _prediction(record: Record) -> str:
    found = record["prediction"]
    if found["step_seconds"] is None:
        return "predicted step: none, for the reason that the warnings give"
    lines = [
        f"predicted step: {found['step_seconds']:.4f} s = compute {found['compute_seconds']:.4f} s"
        f" + Pallas kernels {found['kernel_seconds']:.4f} s"
        f" + wire that nothing hides {found['exposed_wire_seconds']:.4f} s"
        f" (of {found['wire_seconds']:.4f} s)"
        f" + copies that nothing hides {found['exposed_copy_seconds']:.4f} s",
    ]
    if found["caution"]:
        lines.append(f"  caution: {found['caution']}")
    if found["checked_against"]:
        lines.append("the same model on the published runs, from MaxText's compiled programs:")
    return "\n".join(lines + _errors(record))


def _errors(record: Record) -> list[str]:
    return [
        f"  {run['run']}: {run['step_seconds']:.3f} s, measured"
        f" {run['measured_step_seconds']:.3f}: {run['error_percent']:+.1f} %"
        f" ({run['hidden_step_seconds']:.3f} s with all permutes hidden); {run['explanation']}"
        for run in record["prediction"]["checked_against"]
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, a step to the right of what they are about."""
    return [f"  {line}" for line in aligned(rows, right="numbers") or ["none"]]
