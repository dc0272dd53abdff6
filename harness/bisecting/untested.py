"""What two sides may do otherwise though the numbers of a step are equal.

A mask's fill where no row is masked whole, a branch that is not taken, a comparison or a step that
comes out alike for all numbers, a term too small to be added, and settings that only another device
or an index out of range heeds.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.bisecting.capture import BRANCH, Node, Trace
from harness.bisecting.judging import is_float

_BENT = ("abs", "clamp")  # whose derivatives compare what they are given
_EXTREMES = ("max", "min", "reduce_max", "reduce_min")  # and these also what they make
_LARGE = 1e3  # what masks are filled with is larger
_LOWEST = 1e30  # whatever is larger, and finite, fills alike
_ADDED = ("add", "sub", "add_any")
_STEPS = ("lt", "le", "gt", "ge", "eq", "ne", "sign", "floor", "ceil", "round")


def places(names: tuple[str, str], traces: tuple[Trace, Trace]) -> Iterator[tuple[str, str]]:
    """Each place with its side, and what is there.

    Of branches and the forward pass's comparisons always, as what hangs on them is not compared;
    else of what one side alone has: in what both have they agree.
    """
    for side, name in enumerate(names):
        for node, what in _untested(traces[side], traces[1 - side]):
            yield f"{name} at {node.at.source or '?'}", what


def _untested(trace: Trace, other: Trace) -> Iterator[tuple[Node, str]]:
    yield from ((node, "a branch not taken") for node in trace.nodes if node.operation == BRANCH)
    yield from _comparisons(trace, other)
    others = {_bounded(fill) for _, fill in _fills(other)}
    for node, fill in _fills(trace):
        if _bounded(fill) not in others:
            yield node, f"fills with {fill:g}"
    lost = {node.operation for node in other.nodes if _is_lost(node)}
    for node in trace.nodes:
        if _is_lost(node) and node.operation not in lost:
            yield node, "adds too little to count"
    yield from _settings(trace, other)


def _comparisons(trace: Trace, other: Trace) -> Iterator[tuple[Node, str]]:
    """Where all numbers are on one side of a limit."""
    others = {limits for _, limits, _ in _alike(other)}
    for node, limits, is_given in _alike(trace):
        is_forward = node.order <= trace.outputs["loss"].order
        if (is_given and is_forward) or limits not in others:
            yield node, f"{node.operation} {str(node.values.flat[0]).lower()} everywhere"


def _alike(trace: Trace) -> Iterator[tuple[Node, tuple[Any, ...], bool]]:
    """Comparisons and steps that come out alike for all numbers.

    Each with the numbers that it holds against, and whether what it compares is given to the step.
    """
    unsaid = {node.order for node in _implied(trace)}
    for node in trace.nodes:
        if node.operation not in _STEPS or node.order in unsaid or not node.at.source:
            continue
        is_given = node.order in trace.given
        if (is_given or node.array.ndim) and node.level is not None:
            held = (one.level for one in node.inputs if one.order not in trace.given)
            yield node, (node.operation, *held), is_given


def _implied(trace: Trace) -> Iterator[Node]:
    """Comparisons that no model asks for: of derivatives, and of an index counted from the end."""
    bent = {one.order for node in trace.nodes if node.operation in _BENT for one in node.inputs}
    chosen = {_given_to(node) for node in trace.nodes if node.operation in _EXTREMES}
    for node in trace.nodes:
        first, *rest = node.inputs or (node,)
        if node.operation == "select_n" and node.inputs[1] in rest[1].inputs:
            yield first  # i + n in place of i, where i is below 0
        elif node.operation in _STEPS and (first.order in bent or _given_to(node) in chosen):
            yield node
        if node.operation == "eq" and any(one.operation in _EXTREMES for one in node.inputs):
            yield node


def _given_to(node: Node) -> frozenset[Any]:
    """What an operation is given; a number that is written down counts as itself."""
    return frozenset(
        one.level if one.operation == "constant" and one.array.ndim == 0 else f"node {one.order}"
        for one in node.inputs
    )


def _fills(trace: Trace) -> Iterator[tuple[Node, float]]:
    """Where the forward pass masks by large numbers, and by which."""
    for node in trace.nodes[: trace.outputs["loss"].order + 1]:
        if node.order not in trace.weighed or not is_float(node.array):
            continue
        masks = node.inputs[1:] if node.operation == "select_n" else node.inputs
        if node.operation not in ("select_n", *_ADDED):
            continue
        for one in masks:
            values = one.values.astype(np.float64)
            farthest = values.flat[np.abs(values).argmax()] if values.size else 0.0
            if one.order not in trace.weighed and not abs(farthest) < _LARGE:
                yield node, float(farthest)


def _bounded(fill: float) -> float:
    return float(np.clip(fill, -_LOWEST, _LOWEST)) if np.isfinite(fill) else fill


def _is_lost(node: Node) -> bool:
    """Whether a number that is not 0 is added, and changes nothing."""
    if node.operation not in _ADDED or not is_float(node.array):
        return False
    first, second = node.inputs
    made = node.fingerprint
    return (made == first.fingerprint and bool(second.values.any())) or (
        made == second.fingerprint and bool(first.values.any())
    )


def _settings(trace: Trace, other: Trace) -> Iterator[tuple[Node, str]]:
    """Where operations of equal results are set otherwise."""
    every = {(node.operation, node.settings) for node in other.nodes}
    made: dict[tuple[str, bytes], set[str]] = {}
    for node in other.nodes:
        if node.settings:
            made.setdefault((node.operation, node.fingerprint), set()).add(node.settings)
    for node in trace.nodes:
        if not node.settings:
            continue
        settings = made.get((node.operation, node.fingerprint))
        alone = (node.operation, node.settings) not in every
        if alone if settings is None else node.settings not in settings:
            yield node, f"{node.operation} with {node.settings}"
