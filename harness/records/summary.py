"""The figures of one run or of several, side by side, as a table for a terminal."""

from collections.abc import Callable, Sequence

from harness.records.record import Record, at
from harness.terminal.text import GIB, aligned


def table(records: Sequence[Record]) -> str:
    """One column per record; "-" stands for what was not measured."""
    rows = [["", *(record["impl"] or record["run_id"] for record in records)]]
    rows += [[name, *(_cell(read, record) for record in records)] for name, read in _ROWS]
    examples = any("examples_per_second_per_device" in one["timing"] for one in records)
    left_out = "tokens/s per device" if examples else "examples/s per device"
    rows = [row for row in rows if row[0] != left_out]
    return "\n".join(aligned(rows, right="rest"))


def _cell(read: Callable[[Record], str | None], record: Record) -> str:
    try:
        return read(record) or "-"
    except (TypeError, IndexError, KeyError):  # something on the way to the figure is null
        return "-"


def _number(path: str, form: str = "{:,}", scale: float = 1) -> Callable[[Record], str | None]:
    def read(record: Record) -> str | None:
        value = at(record, path)
        return None if value is None else form.format(value / scale if scale != 1 else value)

    return read


def _step_seconds(record: Record) -> str:
    step = record["timing"]["step_seconds"]
    return f"{step['median']:.6f} ({step['samples']})"


_ROWS: list[tuple[str, Callable[[Record], str | None]]] = [
    ("status", _number("status", "{}")),
    ("parameters", _number("model.parameters")),
    ("attention", _number("model.attention", "{}")),
    ("first loss", lambda record: f"{record['steps'][0]['loss']:.9g}"),
    ("last loss", lambda record: f"{record['steps'][-1]['loss']:.9g}"),
    ("last gradient norm", lambda record: f"{record['steps'][-1]['grad_norm']:.9g}"),
    ("final state's digest", lambda record: record["checkpoint"]["digest"][:12]),
    ("optimised program", lambda record: record["program"]["optimized_sha256"][:12]),
    ("step, s (samples)", _step_seconds),
    ("tokens/s per device", _number("timing.tokens_per_second_per_device", "{:,.1f}")),
    ("examples/s per device", _number("timing.examples_per_second_per_device", "{:,.1f}")),
    ("TFLOP per step and device", _number("model.tflop_per_step_per_device", "{:.6g}")),
    ("TFLOP/s per device", _number("timing.tflops_per_device", "{:.3f}")),
    ("MFU, %", _number("timing.mfu_percent", "{:.2f}")),
    ("host dispatch, ms", _number("timing.host_dispatch_seconds", "{:.3f}", 1e-3)),
    ("import, s", _number("timing.import_seconds", "{:.2f}")),
    (
        "trace and lower, s",
        lambda r: f"{r['timing']['trace_seconds'] + r['timing']['lower_seconds']:.2f}",
    ),
    ("compile, s", _number("timing.compile_seconds", "{:.2f}")),
    ("init, s", _number("timing.init_seconds", "{:.2f}")),
    ("first step, s", _number("timing.first_step_seconds", "{:.3f}")),
    ("wall, s", _number("timing.wall_seconds", "{:.1f}")),
    ("memory compiled for, GiB", _number("memory.total_bytes", "{:.3f}", GIB)),
    ("memory at peak, GiB", _number("memory.peak_in_use_bytes", "{:.3f}", GIB)),
]
