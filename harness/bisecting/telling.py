"""What was found of two traces of one step, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.bisecting import idling, judging, parting, untested
from harness.bisecting.capture import Node, Trace
from harness.bisecting.computing import Side
from harness.bisecting.judging import Judged
from harness.bisecting.parting import Distance, Parting, Row
from harness.terminal.text import capped, counted, shortlist

_KINDS = ("activations", "metrics", "gradients", "updates", "state")
_LONGEST_TABLE = 8
_MOST_IDLE = 12
_FEW_ULPS = 9999  # more of them tell nobody how far two numbers are apart
_AFTER_THE_LOSS = {
    "gradients": "backward pass, gradient of",
    "updates": "optimizer, update of",
    "state": "state after the step,",
}
_COUNT = "total_weights"  # which every model tells, asked or not


@dataclass(frozen=True)
class Found:
    """Two sides of one step, and where they part; None: nowhere.

    random: where the sides draw with other keys, a line each. repeating: that one side alone draws
    with keys of earlier steps, by which they part in a later one.
    """

    sides: tuple[Side, Side]
    parting: Parting | None
    random: Sequence[str]
    repeating: Sequence[str]

    @property
    def names(self) -> tuple[str, str]:
        """What the sides are called."""
        return self.sides[0].name, self.sides[1].name

    @property
    def a(self) -> Trace:
        """The first side's values."""
        return self.sides[0].trace

    @property
    def b(self) -> Trace:
        """The second side's values."""
        return self.sides[1].trace

    @property
    def layer_axes(self) -> Mapping[str, int | None]:
        """See Side."""
        return self.sides[0].layer_axes

    @property
    def is_judged(self) -> bool:
        """Whether what differs can be told from rounding: the second side can be computed anew."""
        return self.sides[1].run is not None

    @cached_property
    def judged(self) -> list[Judged]:
        """Every operation that differs given equal inputs, what is furthest from rounding first."""
        run_a, run_b = self.sides[0].run, self.sides[1].run
        if self.parting is None or run_b is None:
            return []
        found = judging.judge(self.a, run_a, run_b, parting.partners(self.a, self.b))
        return sorted(found, key=lambda one: (one.is_rounding, -one.times))

    @property
    def beyond(self) -> list[Judged]:
        """Those of them that differ by more than rounding, in the order of the computation."""
        found = [one for one in self.judged if not one.is_rounding]
        return sorted(found, key=lambda one: one.at.order)

    @property
    def is_different(self) -> bool:
        """Whether something differs, and is not seen to be rounding."""
        return self.parting is not None and (not self.is_judged or bool(self.beyond))

    @cached_property
    def blind(self) -> str | None:
        """The loss or a gradient that is finite on neither side, so that it compares nothing."""
        paths = ["loss", *(path for path in self.a.outputs if path.startswith("gradients/"))]
        both = [(self.a.outputs[path], self.b.outputs[path]) for path in paths]
        return next((path for path, nodes in zip(paths, both, strict=True)
                     if not any(map(_is_finite, nodes))), None)  # fmt: skip

    @property
    def is_rounding(self) -> bool:
        """Whether nothing differs, or is seen to differ by no more than rounding."""
        return not (self.repeating or self.is_different or self.blind)


def _is_finite(node: Node) -> bool:
    return bool(np.isfinite(node.values.astype(np.float64)).all())


def text(found: Found) -> str:
    """What was found, for a terminal."""
    tables = _tables(found)
    lines = verdict(found)
    if found.parting is None:
        return "\n".join([*lines, *found.random])
    lines += ["", _first(found, found.parting)]
    lines += [f"equal bit for bit: {_equal(tables)}", *found.random]
    for kind, rows in tables.items():
        differing = [row for row in rows if row.distance is not None]
        if differing:
            lines.append(f"\n{kind} that differ, in order:")
            lines += capped(list(map(_difference, differing)), _LONGEST_TABLE)
    return "\n".join(lines)


def _tables(found: Found) -> dict[str, list[Row]]:
    """Each named tensor by its kind; the count of targets, which is no metric, where it differs."""
    tables = {kind: parting.rows(found.a, found.b, kind, found.layer_axes) for kind in _KINDS}
    told = [row for row in tables["metrics"] if row.tensor != _COUNT or row.distance is not None]
    return tables | {"metrics": told}


def _equal(tables: Mapping[str, list[Row]]) -> str:
    """How many tensors of each kind are equal."""
    return ", ".join(
        f"{sum(row.distance is None for row in rows)} of {len(rows)} {kind}"
        for kind, rows in tables.items()
        if rows
    )


def verdict(found: Found) -> list[str]:
    """Whether anything differs, whether all that does is rounding, and what is not.

    And what agrees without having been put to the test.
    """
    later = [f"different in later steps: {line}; of the first:" for line in found.repeating]
    told = later + _of_this_step(found)
    if found.blind is not None:
        return told
    idle = shortlist(_idle(found), _MOST_IDLE)
    return [*told, f"not put to the test, as it changes nothing here: {idle}"] if idle else told


def _idle(found: Found) -> list[str]:
    """Each place where a step does something in vain, and what."""
    sides = found.names, (found.a, found.b)
    places: dict[str, list[str]] = {}
    for place, what in (*idling.places(*sides), *untested.places(*sides)):
        places.setdefault(place, []).append(what)
    return [f"{place} ({', '.join(dict.fromkeys(whats))})" for place, whats in places.items()]


def _of_this_step(found: Found) -> list[str]:
    if found.blind is not None and not found.is_different:
        return [f"not known: {found.blind} is not finite on either side, and tells nothing"]
    if found.parting is None:
        but = " but random draws" if found.random else ""
        return [f"no difference{but}: loss, {_equal(_tables(found))} are equal bit for bit"]
    if not found.is_judged:
        return ["different: two files do not tell rounding from faults; one file and code here do"]
    beyond = found.beyond
    differ = "differs" if len(found.judged) == 1 else "differ"
    many = counted(len(found.judged), "operation")
    if not beyond:
        most = max((one.times for one in found.judged), default=0.0)
        return [
            f"equal up to rounding: {many} of {len(found.b.nodes)} {differ} given equal inputs,"
            f" by at most {most:.2g} of what moving values by a unit in the last place makes there"
        ]
    told = [_judged(found, one) for one in beyond]
    return [
        f"different: of {many} that {differ} given equal inputs {len(beyond)}"
        f" {'does' if len(beyond) == 1 else 'do'} by more than rounding; in the order of the step:",
        *capped(told, _LONGEST_TABLE),
    ]


def _judged(found: Found, one: Judged) -> str:
    lines = [_line(found.a, one.at, one.a), _line(found.b, one.own, one.b)]
    places = ", ".join(f"{name} at {line}" for name, line in zip(found.names, lines, strict=True))
    if one.times <= judging.LIMIT and one.formats is not None:
        far = f"computed in {one.formats[0]} and in {one.formats[1]}"
    else:
        far = f"{100 * one.error:.3g} % apart, {one.times:,.3g} times what rounding makes"
    return f"{_place(found.a, one.at)}: {far}\n  {places}"


def _place(trace: Trace, at: Node) -> str:
    """Which value it is: of an output, where in the step it is computed."""
    paths = {node.order: path for path, node in trace.outputs.items()}
    kind, _, path = paths.get(at.order, "").partition("/")
    if kind in _AFTER_THE_LOSS:
        return f"{_AFTER_THE_LOSS[kind]} {path}"
    tensor, layer = parting.place(at, trace)
    return f"{_layer(layer)}{tensor}"


def _line(trace: Trace, value: Node, first: Node) -> str:
    """The line of the first operation; of a gradient that is 0, where its parameter is used."""
    if not value.values.any():
        outputs = trace.outputs.items()
        paths = {path.partition("/")[2] for path, one in outputs if one.order == value.order}
        for used in trace.nodes:
            if used.follows_tokens and used.parameters & paths:
                return f"{used.at.source or '?'} (its gradient is 0)"
    return first.at.source or "?"


def _first(found: Found, first: Parting) -> str:
    kind = "" if first.kind == "activations" else f"{first.kind.removesuffix('s')} of "
    lines = [f"first difference: {kind}{_layer(first.layer)}{first.tensor}"]
    if first.distance is not None:
        lines[0] += f": {_distance(first.distance)}"
    for name, node in zip(found.names, (first.a, first.b), strict=True):
        lines.append(f"  {name}: {_operation(node)}")
    return "\n".join(lines)


def _operation(node: Node | None) -> str:
    if node is None:
        return "every value on the way is one that the other side has too"
    shape = f"{node.values.dtype}{list(node.values.shape)}"
    with_ = [*sorted(node.parameters), *(f"{float(one):.9g}" for one in node.literals)]
    of = f" with {', '.join(with_)}" if with_ else ""
    scope = f", in {node.at.scope}" if node.at.scope else ""
    return f"{node.operation} {shape}{of}, at {node.at.source or '?'}{scope}"


def _difference(row: Row) -> str:
    return f"{_layer(row.layer)}{row.tensor}: {_distance(row.distance)}"


def _layer(layer: int | None) -> str:
    return "" if layer is None else f"layer {layer}, "


def _distance(distance: Distance | None) -> str:
    if distance is None or distance.relative != distance.relative:
        return "of another type or shape"
    is_near = distance.ulps is not None and distance.ulps <= _FEW_ULPS
    ulps = f", at most {distance.ulps:,} units in the last place off" if is_near else ""
    return (
        f"{100 * distance.relative:.3g} % apart,"
        f" {distance.equal:,} of {distance.size:,} elements equal{ulps}"
    )
