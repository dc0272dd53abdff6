"""What a step computes in vain: a bound that nothing reaches, a mask that masks nothing.

That two sides agree says nothing of it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from harness.bisecting.capture import Node, Trace
from harness.bisecting.judging import is_float

_LIMITS = ("max", "min", "clamp")
_LOGIC = ("and", "or")
_ARITHMETIC = ("mul", "add", "sub", "div")
# What changes no number ever.
_NOTHING = {"max": -np.inf, "min": np.inf, "add": 0, "sub": 0, "mul": 1, "div": 1}
_Kind = tuple[str, tuple[float | None, ...]]  # the operation, and the numbers that it holds against


def places(names: tuple[str, str], traces: tuple[Trace, Trace]) -> Iterator[tuple[str, str]]:
    """Where operations make of a value what it was, each place with its side, and the operation.

    Those of masks that follow from the batch or from random numbers; and of all others, such as
    limits and what is too small to be added, those that the other side has not.
    """
    idle = [[*_idle(trace)] for trace in traces]
    kinds = [Counter(kind for _, kind in found if kind is not None) for found in idle]
    for side, name in enumerate(names):
        for node, kind in idle[side]:
            if kind is None or kind in kinds[side] - kinds[1 - side]:
                yield f"{name} at {node.at.source or '?'}", node.operation


def _idle(trace: Trace) -> Iterator[tuple[Node, _Kind | None]]:
    """Each operation that changes nothing, with its kind; None where it is a mask."""
    weighed, given = trace.weighed, trace.given
    last = trace.outputs["loss"].order
    for node in trace.nodes:
        if not _is_asked(node) or (node.order > last and node.operation not in _LIMITS):
            continue
        kept = next((one for one in _kept(node) if _is_same(one, node)), None)
        rest = [one for one in node.inputs if one is not kept]
        if kept is None or all(_is_same(one, kept) for one in rest):
            continue
        if node.operation in ("mul", "div") and kept.level == 0:
            continue
        deciding = node.inputs[:1] if node.operation == "select_n" else rest
        if (
            node.operation not in _LIMITS
            and {one.order for one in deciding} <= given - weighed
            and (kept.order in given or node.operation in _LOGIC)
        ):
            yield node, None
        elif node.operation in _LIMITS and kept.order not in given:  # reached everywhere
            yield node, (node.operation, (kept.level,))
        elif _is_bound(node, deciding, given):
            yield node, (node.operation, tuple(sorted((one.level for one in rest), key=str)))


def _is_asked(node: Node) -> bool:
    """Whether it is of those that may leave a value as it is."""
    if node.operation in _LIMITS:
        return True
    if node.operation in _LOGIC:
        return bool(node.array.dtype == jnp.bool_)
    return is_float(node.array) and node.operation in (*_ARITHMETIC, "select_n")


def _kept(node: Node) -> Sequence[Node]:
    """Of an operation's inputs, those that its result may be."""
    if node.operation == "clamp":
        return node.inputs[1:2]
    return node.inputs[1:] if node.operation == "select_n" else node.inputs


def _is_same(one: Node, other: Node) -> bool:
    if one.array.ndim == 0 and other.array.size:  # a number stands for an array of it
        return one.array.dtype == other.array.dtype and bool((one.values == other.values).all())
    return one.array.shape == other.array.shape and one.fingerprint == other.fingerprint


def _is_bound(node: Node, deciding: Sequence[Node], given: set[int]) -> bool:
    """Whether other values would not be left as they are."""
    if node.operation == "select_n":
        return all(one.operation != "is_finite" for one in deciding)
    nothing = _NOTHING.get(node.operation)
    return all(one.order not in given and one.level != nothing for one in deciding)
