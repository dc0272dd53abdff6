"""What two sets of runs have in common and what differs, how surely, and what to make of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harness.comparing import comparability, compiled, numbers, parity, speed, statistics, verdicts
from harness.comparing.compiled import UNREAD, Read
from harness.comparing.model import USUAL, Better, Comparison, Limits, Row, Speed
from harness.comparing.statistics import Ratio
from harness.records import figures
from harness.records.record import Record

_Reader = Callable[[Record], float | None]


def compare(
    a: Sequence[Record],
    b: Sequence[Record],
    across: Sequence[str] = (),
    limits: Limits = USUAL,
    programs: Read = UNREAD,
) -> Comparison:
    """Compares runs `b` with runs `a`; several of a side are repeats of one experiment.

    across: keys of the record whose difference is the point; programs: of the first run of each.
    Raises UserError for a name in `across` that is no key.
    """
    differences = comparability.differences(a, b, across)
    impls = a[0]["impl"], b[0]["impl"]
    names = impls if None not in impls and impls[0] != impls[1] else ("A", "B")
    margin = limits.slowdown_percent / 100
    steps, dispatch = speed.of_steps(a, b, margin), speed.of_dispatch(a, b, margin)
    pairs = [parity.compare(a[0], other) for other in b]
    worst = max(pairs, key=lambda one: (not one.equal, one.loss.largest or 0.0))
    found = Comparison(
        a=tuple(a),
        b=tuple(b),
        names=names,
        differences=tuple(differences),
        rows=tuple(_rows(a, b, steps)),
        parity=worst,
        speed=steps,
        dispatch=dispatch,
        programs=compiled.compare(a[0], b[0], programs),
        warnings=(),
        verdicts=(),
    )
    found = replace(found, warnings=tuple(_warnings(a, b, found)))
    if found.comparable:
        return replace(found, verdicts=tuple(verdicts.judge(found, limits)))
    # How figures of two different things stand to each other says nothing of either.
    bare = tuple(replace(row, ratio=None, low=None, high=None) for row in found.rows)
    return replace(found, rows=bare, speed=_unsaid(steps), dispatch=_unsaid(dispatch))


def _unsaid(speed: Speed) -> Speed:
    return replace(speed, ratio=None, advice="")


def _at(path: str) -> _Reader:
    return lambda record: figures.figure(record, path)


_EXAMPLES = "examples_per_second_per_device"
_ONE_OF = ("tokens/s per device", "examples/s per device")  # what a batch holds


def _examples(record: Record) -> float | None:
    return figures.number(record["timing"].get(_EXAMPLES))


# Name, unit, how it is read, what is better.
_ROWS: tuple[tuple[str, str, _Reader, Better], ...] = (
    ("parameters", "", _at("model.parameters"), None),
    ("final loss", "", figures.last_loss, None),
    ("step", "s", figures.step_seconds, "lower"),
    ("tokens/s per device", "", _at("timing.tokens_per_second_per_device"), "higher"),
    ("examples/s per device", "", _examples, "higher"),
    ("TFLOP/s per device", "", _at("timing.tflops_per_device"), "higher"),
    ("MFU", "%", _at("timing.mfu_percent"), "higher"),
    ("memory compiled for", "bytes", _at("memory.total_bytes"), "lower"),
    ("memory at peak", "bytes", _at("memory.peak_in_use_bytes"), "lower"),
    ("compile", "s", _at("timing.compile_seconds"), "lower"),
    ("first step", "s", _at("timing.first_step_seconds"), "lower"),
    ("checkpoint stall", "s", figures.checkpoint_stall, "lower"),
    ("host dispatch", "s", _at("timing.host_dispatch_seconds"), "lower"),
)
_FROM_STEPS = ("step", "tokens/s per device", "examples/s per device", "TFLOP/s per device", "MFU")
_ALONE = "of each run by itself, one after the other"
_BESIDE = "medians; the ratio is that of blocks run beside each other, not of the medians"
_VERSIONS = {"JAX": "jax", "libtpu": "libtpu", "flax": "flax"}


def _rows(a: Sequence[Record], b: Sequence[Record], steps: Speed) -> list[Row]:
    rows = []
    for name, unit, read, better in _ROWS:
        values_a, values_b = (
            [value for record in side if (value := read(record)) is not None] for side in (a, b)
        )
        if name in _ONE_OF and not (values_a or values_b or name == _unit(a, b)):
            continue
        median_a, median_b = (
            float(np.median(side)) if side else None for side in (values_a, values_b)
        )
        ratio = median_b / median_a if median_a and median_b is not None else None
        low = high = None
        if ratio is not None and name in _FROM_STEPS:
            if steps.by == "turns":
                ratio = None  # two runs one after the other say less than the turns below
            elif steps.by == "runs":
                low, high = _around(ratio, steps.ratio, inverse=better == "higher")
        elif ratio is not None and len(values_a) + len(values_b) > 2 and unit == "s":
            spread = statistics.compare(values_a, values_b, 0.0, independent=True)
            low, high = _around(ratio, spread)
        in_turns = _in_turns(steps) if name == "step" else []
        note = _ALONE if in_turns else ""
        rows.append(Row(name, unit, median_a, median_b, ratio, low, high, better, note))
        rows += in_turns
    for name, key in _VERSIONS.items():
        versions = a[0]["environment"][key], b[0]["environment"][key]
        rows.append(Row(name, "", versions[0], versions[1], None, None, None, None))
    return rows


def _in_turns(steps: Speed) -> list[Row]:
    both, ratio = steps.in_turns, steps.ratio
    if both is None or ratio is None:
        return []
    figures = (*both, ratio.value, ratio.low, ratio.high)
    return [Row("step, in turns", "s", *figures, "lower", _BESIDE)]


def _unit(a: Sequence[Record], b: Sequence[Record]) -> str:
    """Which rate is missed where neither side has one."""
    return _ONE_OF[any(_EXAMPLES in record["timing"] for record in (*a, *b))]


def _around(
    ratio: float, spread: Ratio | None, inverse: bool = False
) -> tuple[float | None, float | None]:
    """The interval of a ratio as wide as another one's, or its inverse's: a rate's, from times."""
    if spread is None or spread.low is None or spread.high is None:
        return None, None
    low, high = spread.low / spread.value, spread.high / spread.value
    return (ratio / high, ratio / low) if inverse else (ratio * low, ratio * high)


def _warnings(a: Sequence[Record], b: Sequence[Record], found: Comparison) -> list[str]:
    """What the records warn of and no verdict says, each once, and repeats that do not repeat."""
    names = found.names
    sides: dict[str, list[str]] = {}
    for name, side in zip(names, (a, b), strict=True):
        for record in side:
            for warning in record["warnings"]:
                if not (found.comparable and numbers.says(warning)):
                    sides.setdefault(warning, []).append(name)
    listed = [
        f"{'both' if len(set(of)) > 1 else of[0]}: {warning}" for warning, of in sides.items()
    ]
    for name, side in zip(names, (a, b), strict=True):
        for other in side[1:]:
            own = parity.compare(side[0], other)
            if not own.equal:
                words = numbers.in_words(own, (side[0]["run_id"], other["run_id"]))
                listed.append(f"{name}: its own runs differ: {words}")
                break
    shared = {record["run_id"] for record in a} & {record["run_id"] for record in b}
    listed += [f"both sides hold the run {run_id}" for run_id in sorted(shared)]
    return listed
