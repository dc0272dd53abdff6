"""What one candidate of a search was compiled into."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness import hardware
from harness.slices.forecast import Forecast
from harness.slices.space import Candidate


@dataclass(frozen=True)
class Figures:
    """What a candidate needs of a chip and how fast it is; compiled, or expected.

    batch: as it is set. tokens: of a step and chip. busy_seconds: of the step, what the chip
    computes. least_seconds: what the model's products take at the chip's peak, 0 where they are not
    known.
    """

    batch: int
    tokens: float
    step_seconds: float
    busy_seconds: float
    least_seconds: float
    needed_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """Of one chip."""
        return self.tokens / self.step_seconds

    def beats(self, other: "Figures") -> bool:
        """Whether it is better in speed, memory or batch, and worse in none of them."""
        pairs = (
            (self.tokens_per_second, other.tokens_per_second),
            (-self.needed_bytes, -other.needed_bytes),
            (-self.batch, -other.batch),
        )
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@dataclass(frozen=True)
class Row:
    """A candidate and its compiled step; figures None: the compiler could not place it in memory.

    error: then what it said. compute, kernel, wire, hidden_wire_seconds: of the step, as the
    record's `prediction` has them. mfu_percent: None where the family counts no operations.
    inexact: whether counts in the program are not exact.
    """

    candidate: Candidate
    capacity_bytes: int
    figures: Figures | None
    error: str | None = None
    mfu_percent: float | None = None
    compute_seconds: float = 0.0
    kernel_seconds: float = 0.0
    wire_seconds: float = 0.0
    hidden_wire_seconds: float = 0.0
    compile_seconds: float = 0.0
    inexact: bool = False
    cycles_by_part: Mapping[str, int] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the device's memory holds it."""
        return self.figures is not None and self.figures.needed_bytes <= self.capacity_bytes


def row(candidate: Candidate, batch: int, forecast: Forecast) -> Row:
    """The row of a candidate, whose batch is set so, on a slice for which steps are predicted."""
    record = forecast.record
    capacity = record["memory"]["capacity_bytes"]
    if forecast.program is None:
        return Row(candidate, capacity, None, record["error"])
    predicted, kind = record["prediction"], record["environment"]["device_kind"]
    step, tflop = predicted["step_seconds"], record["model"]["tflop_per_step_per_device"]
    device = hardware.find(kind)
    assert device is not None  # one without constants has no predicted step
    length = forecast.question.case.data.sequence_length
    busy = predicted["compute_seconds"] + predicted["kernel_seconds"]
    least = 0.0 if tflop is None else tflop / device.bf16_tflop_per_second
    figures = Figures(
        batch,
        forecast.sequences * length / forecast.question.on.chips,
        step,
        busy,
        least,
        forecast.needed_bytes,
    )
    return Row(
        candidate,
        capacity,
        figures,
        mfu_percent=None if tflop is None else hardware.mfu_percent(tflop / step, kind),
        compute_seconds=predicted["compute_seconds"],
        kernel_seconds=predicted["kernel_seconds"],
        wire_seconds=predicted["wire_seconds"],
        hidden_wire_seconds=predicted["wire_seconds"] - predicted["exposed_wire_seconds"],
        compile_seconds=record["timing"]["compile_seconds"],
        inexact=bool(record["program"]["inexact"]),
        cycles_by_part=predicted["cycles_by_part"],
    )
