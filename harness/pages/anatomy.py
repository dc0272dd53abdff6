"""What memory, a step and a run consist of, as bars."""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from harness.pages import bars, words
from harness.pages.bars import Bar, Piece
from harness.pages.sources import Run
from harness.records import figures
from harness.records.record import Record
from harness.terminal.text import size

_MEMORY = (("k0", "arguments"), ("k1", "outputs of their own"), ("k2", "temporaries"),
           ("k3", "code"), ("peak", "peak in use"))  # fmt: skip
_STEP = (("k0", "compute"), ("k1", "kernels"), ("k2", "waiting for the wire"),
         ("k3", "exposed copies"))  # fmt: skip
_WAITING, _HIDDEN = "k2", ("k4", "wire, hidden")
_PREDICTED = ("compute_seconds", "kernel_seconds", "exposed_wire_seconds", "exposed_copy_seconds")
_WALL = (("k0", "steps"), ("k1", "saves that training waited for"), ("k2", "compile"),
         ("k3", "trace and lower"), ("k4", "import and init"), ("k5", "the rest"))  # fmt: skip
_SAVING = (("k0", "step"), ("k1", "training stands still"), ("k2", "written in the background"))
_MOST_STEPS = 400  # drawn one by one


def memory(named: Sequence[tuple[str, Run]]) -> Markup:
    """What the compiled step needs, and the peak that was seen."""
    rows = []
    for name, run in named:
        found = run.record["memory"]
        argument, output, temp, alias, code = (
            figures.number(found[f"{kind}_bytes"])
            for kind in ("argument", "output", "temp", "alias", "generated_code")
        )
        # Outputs written into donated arguments need no memory of their own. A log that does not
        # say how many these are gives a total all the same.
        total, peak = (
            figures.number(found["total_bytes"]),
            figures.number(found["peak_in_use_bytes"]),
        )
        own = None
        if output is not None and alias is not None:
            own = output - alias
        elif total is not None and argument is not None and temp is not None:
            own = total - argument - temp
        parts = [argument, own, temp, code]
        told = [] if total is None else [size(total)]
        capacity = figures.number(found["capacity_bytes"])
        if capacity and total is not None:
            told.append(f"{words.percent(100 * total / capacity)} of {size(capacity)}")
        mark = None
        if peak is not None:
            mark = Piece("peak", peak, 0.0, f"peak in use {size(peak)}")
            told.append(f"peak {size(peak)}")
        pieces = _stacked(parts, _MEMORY, size)
        if pieces or mark is not None:
            rows.append(Bar(name, pieces, ", ".join(told), mark))
    return bars.draw("Memory of one device", rows, _MEMORY, size)


def step(preflights: dict[str, Run]) -> Markup:
    """What a step is expected to consist of, by slice."""
    rows = []
    for on, run in preflights.items():
        prediction = run.record["prediction"]
        pieces, whole = _predicted(prediction), words.number(prediction["step_seconds"])
        if pieces and whole is not None:
            mark = "≈ " if run.record["program"].get("inexact") else ""
            mark += "~" if prediction.get("caution") else ""
            rows.append(Bar(on, pieces, f"{mark}{words.seconds(whole)}"))
    return bars.draw("A step, as predicted", rows, _STEP, words.seconds)


def timeline(title: str, named: Sequence[tuple[str, Run]]) -> Markup:
    """What a step is expected to consist of: the device above, the wire below, hidden or not."""
    rows = []
    for name, run in named:
        found = run.record["prediction"]
        pieces, whole = _predicted(found), words.number(found["step_seconds"])
        if pieces and whole is not None:
            rows += [Bar(name, pieces, words.seconds(whole)), *_on_the_wire(found, pieces)]
    return bars.draw(title, rows, (*_STEP, _HIDDEN), words.seconds)


def _predicted(prediction: Record) -> list[Piece]:
    parts = [words.number(prediction.get(key)) for key in _PREDICTED]
    return _stacked(parts, _STEP, words.seconds)


def _on_the_wire(prediction: Record, device: Sequence[Piece]) -> list[Bar]:
    """The hidden part from the start on, the rest where the device waits for it."""
    whole, waited = (words.number(prediction.get(f"{key}wire_seconds")) for key in ("", "exposed_"))
    if whole is None or waited is None:
        return []
    hidden = max(0.0, whole - waited)
    start = next((piece.start for piece in device if piece.kind == _WAITING), hidden)
    pieces = [
        Piece(_HIDDEN[0], 0.0, hidden, f"{_HIDDEN[1]} {words.seconds(hidden)}"),
        Piece(_WAITING, start, waited, f"wire waited for {words.seconds(waited)}"),
    ]
    told = f"wire {words.seconds(whole)}, {words.seconds(hidden)} hidden"
    return [Bar("", [piece for piece in pieces if piece.length > 0], told)]


def parts(named: Sequence[tuple[str, Run]]) -> Markup:
    """What a step computes in each part of the model, the largest part first.

    In cycles where the compiler estimates them, else in its matrix products.
    """

    def told_of(section: str, key: str) -> list[tuple[str, dict[str, float]]]:
        return [(name, _by_part(run.record[section].get(key))) for name, run in named]

    what, form, found = "Compute", _cycles, told_of("prediction", "cycles_by_part")
    if not any(told for _, told in found):
        what, form, found = "Matrix products", words.flop, told_of("program", "tflop_by_part")
    largest = {part: max(told.get(part, 0.0) for _, told in found)
               for _, every in found for part in every}  # fmt: skip
    rows = []
    for part in sorted(largest, key=lambda one: -largest[one]):
        called = part
        for place, (name, told) in enumerate(found):
            if part in told:
                share = words.percent(100 * told[part] / sum(told.values()))
                piece = Piece(f"k{place}", 0.0, told[part], f"{name}: {form(told[part])}")
                rows.append(Bar(called, [piece], f"{form(told[part])}, {share}"))
                called = ""
    kinds = [(f"k{place}", name) for place, (name, _) in enumerate(found)]
    return bars.draw(f"{what} by part of the model", rows, kinds, form)


def _by_part(listed: Any) -> dict[str, float]:
    """Numbers above 0 by part, of whatever a record holds there."""
    if not isinstance(listed, dict):
        return {}
    known = {words.clean(str(part), 80): words.number(one) for part, one in listed.items()}
    return {part: one for part, one in known.items() if one is not None and one > 0}


def _cycles(value: float) -> str:
    return f"{value / 1e6:.3g} million cycles"


def wall(named: Sequence[tuple[str, Run]]) -> Markup:
    """Where the time of a run went, for runs of one attempt."""
    rows = []
    for name, run in named:
        timing = run.record["timing"]
        whole = figures.number(timing["wall_seconds"])
        if whole is None or len(run.record["attempts"]) > 1 or run.record["status"] == "imported":
            continue
        known = {key: figures.number(timing[f"{key}_seconds"]) or 0.0
                 for key in ("import", "init", "trace", "lower", "compile")}  # fmt: skip
        parts = [
            sum(figures.number(entry["step_seconds"]) or 0.0 for entry in run.record["steps"]),
            figures.checkpoint_stall(run.record) or 0.0,
            known["compile"],
            known["trace"] + known["lower"],
            known["import"] + known["init"],
        ]
        parts.append(max(0.0, whole - sum(parts)))
        rows.append(Bar(name, _stacked(parts, _WALL, words.seconds), words.seconds(whole)))
    return bars.draw("A run, from its start to its end", rows, _WALL, words.seconds)


def saving(named: Sequence[tuple[str, Run]]) -> Markup:
    """When the saves of each run fell and what they took: training above, writing below."""
    rows: list[Bar] = []
    for name, run in named:
        if run.record["checkpoint"]["saves"]:
            rows += _timeline(name, run.record)
    return bars.draw("Checkpoints over time", rows, _SAVING, words.seconds)


def _timeline(name: str, content: Record) -> list[Bar]:
    """A bar of steps and stalls, and one of the writing beside them."""
    saves = {entry["step"]: entry for entry in content["checkpoint"]["saves"]}
    # A step's time in a log of others holds the wait for a save; ours never does.
    waits_inside = content["status"] == "imported"
    steps = content["steps"]
    training: list[Piece] = []
    writing: list[Piece] = []
    now = 0.0
    for entry in steps:
        length = figures.number(entry["step_seconds"]) or 0.0
        if len(steps) <= _MOST_STEPS:
            training.append(
                Piece("k0", now, length, f"step {entry['step']}: {words.seconds(length)}")
            )
        now += length
        save = saves.get(entry["step"])
        if save is None:
            continue
        stall, after = (
            figures.number(save[f"{kind}_seconds"]) or 0.0 for kind in ("blocking", "background")
        )
        told = f"save of step {save['step']}: {words.seconds(stall)} blocking,"
        told += f" {words.seconds(after)} in the background"
        if not waits_inside or entry is steps[-1]:
            training.append(Piece("k1", now, stall, told))
            now += stall
            writing.append(Piece("k2", now, after, told))
        else:
            training.append(Piece("k1", now, min(stall, _following(steps, entry)), told))
            writing.append(Piece("k2", now, after, told))
    if len(steps) > _MOST_STEPS:
        training.insert(0, Piece("k0", 0.0, now, f"{len(steps):,} steps"))
    total = figures.checkpoint_stall(content)
    value = "" if total is None else f"{words.seconds(total)} still"
    return [Bar(name, training, value), Bar("", writing)]


def _following(steps: Sequence[Record], entry: Record) -> float:
    place = steps.index(entry) + 1
    return figures.number(steps[place]["step_seconds"]) or 0.0 if place < len(steps) else 0.0


def _stacked(
    parts: Sequence[float | None],
    kinds: Sequence[tuple[str, str]],
    form: Callable[[float], str],
) -> list[Piece]:
    pieces, start = [], 0.0
    for (kind, name), length in zip(kinds, parts, strict=False):
        if length is not None and length > 0:
            pieces.append(Piece(kind, start, length, f"{name} {form(length)}"))
            start += length
    return pieces
