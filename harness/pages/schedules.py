"""A pipeline's order as pictures: what stages run tick by tick, and what a log says ranks ran."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.pages.sources import Run
from harness.pages.words import clean
from harness.records.record import Record

_MOST = 6000  # passes in one picture
_LEGIBLE = 160  # places along one picture that have room for a number
_COLOURS = 6  # .k0 to .k5 in style.css
_PASS = re.compile(r"([FB])([0-9]{1,6})\.([0-9]{1,6})")
_LOGGED = re.compile(r"([FB])([0-9]{1,9})")
_DIRECTIONS = {"F": "forward", "B": "backward"}


@dataclass(frozen=True)
class Shape:
    """What a log's numbers of passes follow from."""

    stages: int
    chunks: int
    microbatches: int


@dataclass(frozen=True)
class _Pass:
    direction: str  # F or B
    microbatch: int
    chunk: int

    def __str__(self) -> str:
        return f"{_DIRECTIONS[self.direction]} of microbatch {self.microbatch}, chunk {self.chunk}"


@dataclass(frozen=True)
class _Row:
    """Passes and where they stand; odd: the places of those to point out."""

    name: str
    passes: Sequence[tuple[int, _Pass]]
    odd: frozenset[int] = frozenset()


def shown(told: Record | None, documents: Sequence[Run]) -> dict[str, Any] | None:
    """What a page shows of a record's `pipeline`, beside the documents that log one like it."""
    if told is None:
        return None
    same = alike(told, documents)
    pictures = [planned(told), *(picture for run in same for picture in logged(run, told))]
    return {"told": told, "pictures": pictures, "stages": stages(told, same), "documents": same}


def planned(told: Record) -> Markup:
    """Every stage of a record's `pipeline` over the ticks: forwards above, backwards below."""
    rows = []
    for stage, entry in enumerate(told["per_stage"]):
        starts = {"F": stage, "B": told["ticks"]["warm"] + told["stages"] - 1 - stage}
        placed = []
        for one in _passes(entry["order"]):
            placed.append((starts[one.direction], one))
            starts[one.direction] += 1
        rows.append(_Row(f"stage {stage}", placed))
    return _figure("What each stage runs", "by tick; numbers are microbatches", rows)


def logged(run: Run, here: Record | None = None) -> list[Markup]:
    """What ranks ran in each iteration that a document tells of, one pass after the other.

    here: the `pipeline` of a record of that shape, whose last stage is drawn above, and what is not
    as there pointed out; without one, what is not as on the rank above.
    """
    shape, found = shape_of(run.record), []
    if shape is None:
        return []
    for entry in run.source["schedule"] or []:
        orders = {f"rank {rank}": _of_log(order, shape) for rank, order in entry["orders"].items()}
        if here is not None:
            last = here["stages"] - 1
            orders = {f"stage {last} here": _passes(here["per_stage"][last]["order"]), **orders}
        model = next(iter(orders.values()), [])
        rows = [_compared(name, order, model) for name, order in orders.items()]
        odd = min((place for row in rows for place in row.odd), default=None)
        parting = "all alike" if odd is None else f"they part at pass {odd + 1}"
        cut = "" if entry["complete"] else ", in which the log ends"
        title = f"Iteration {entry['iteration']} of {run.short}{cut}: {parting}"
        found.append(_figure(title, "in the order of the log", rows))
    return found


def alike(told: Record, documents: Sequence[Run]) -> list[Run]:
    """The documents that log a pipeline of the shape of a record's `pipeline`."""
    wanted = Shape(told["stages"], told["repeats"], told["microbatches"])
    return [run for run in documents if shape_of(run.record) == wanted]


def stages(told: Record, documents: Sequence[Run]) -> list[dict[str, Any]]:
    """Each stage of a record's `pipeline`, with what documents say of the ranks that are it."""
    return [
        {
            **entry,
            "stage": stage,
            "ranks": [
                rank
                for run in documents
                for rank in run.source["ranks"] or []
                if _stage(run.record, rank["rank"]) == stage
            ],
        }
        for stage, entry in enumerate(told["per_stage"])
    ]


def shape_of(record: Record) -> Shape | None:
    """Of the pipeline that an imported record's arguments tell; None where they do not."""
    config = record["case"]["config"] or {}

    def told(name: str, usual: int | None = None) -> int:
        found = config.get(name, usual)
        return found if type(found) is int and found > 0 else 0

    stages, chunks = (
        told("pipeline_model_parallel_size"),
        told("virtual_pipeline_model_parallel_size", 1),
    )
    each = told("micro_batch_size") * told("data_parallel_size", 1)
    microbatches, left = divmod(told("global_batch_size"), each) if each else (0, 1)
    if left or not stages * chunks * microbatches:
        return None
    return Shape(stages, chunks, microbatches)


def _stage(record: Record, rank: int) -> int | None:
    shape, world = shape_of(record), (record["case"]["config"] or {}).get("world_size")
    if shape is None or type(world) is not int or world < shape.stages:
        return None
    return rank // (world // shape.stages)


def _passes(order: str) -> list[_Pass]:
    return [_Pass(way, int(m), int(c)) for way, m, c in _PASS.findall(order)[:_MOST]]


def _of_log(order: str, shape: Shape) -> list[_Pass]:
    """Megatron-LM counts microbatches by as many as stages, a backward's chunk from the end."""
    found = []
    for way, number in _LOGGED.findall(order)[:_MOST]:
        group, place = divmod(int(number), shape.stages * shape.chunks)
        chunk, place = divmod(place, shape.stages)
        chunk = chunk if way == "F" else shape.chunks - 1 - chunk
        found.append(_Pass(way, group * shape.stages + place, chunk))
    return found


def _compared(name: str, order: Sequence[_Pass], model: Sequence[_Pass]) -> _Row:
    odd = frozenset(
        place for place, (one, other) in enumerate(zip(order, model, strict=False)) if one != other
    )
    return _Row(name, list(enumerate(order)), odd)


def _figure(title: str, axis: str, rows: Sequence[_Row]) -> Markup:
    places = 1 + max((place for row in rows for place, _ in row.passes), default=-1)
    passes = sum(len(row.passes) for row in rows)
    if not 0 < passes <= _MOST:
        return Markup("")
    drawn = Markup("").join(
        Markup('<div class="bar"><span class="bar-name">{}</span><svg class="track" width="100%"'
               ' height="34" role="img" aria-label="{}">{}</svg><span></span></div>').format(
            clean(row.name, 80),
            f"{clean(row.name, 80)}: {len(row.passes)} passes",
            Markup("").join(
                _cell(place, one, places, place in row.odd) for place, one in row.passes
            ),
        )
        for row in rows
    )  # fmt: skip
    chunks = sorted({one.chunk for row in rows for _, one in row.passes})[:_COLOURS]
    legend = Markup("").join(
        Markup('<li><svg class="swatch square" aria-hidden="true"><rect class="k{}" width="100%"'
               ' height="100%"/></svg>chunk {}</li>').format(chunk % _COLOURS, chunk)
        for chunk in chunks
    )  # fmt: skip
    return Markup(
        '<figure class="bars passes"><figcaption>{}<small>{}; forwards above, backwards below'
        '</small></figcaption>{}<ul class="legend">{}</ul></figure>'
    ).format(clean(title, 200), axis, drawn, legend)


def _cell(place: int, one: _Pass, places: int, odd: bool) -> Markup:
    width, top = 100 / places, 0 if one.direction == "F" else 50
    number = Markup("")
    if places <= _LEGIBLE:
        number = Markup('<text x="{:.3f}%" y="{}">{}</text>').format(
            width * (place + 0.5), 12 if top == 0 else 29, one.microbatch
        )
    return Markup(
        '<rect class="k{}{}" x="{:.3f}%" y="{}%" width="{:.3f}%" height="50%"><title>{}: {}</title>'
        "</rect>{}"
    ).format(
        one.chunk % _COLOURS,
        " odd" if odd else "",
        width * place,
        top,
        width,
        place + 1,
        one,
        number,
    )
