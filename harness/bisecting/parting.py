"""Where two computations of one thing part: the first operation whose result the other lacks.

Values are matched by their bits, not by their names: from an output that differs one walks back
through the values that the other side never computes, to an operation whose inputs it does compute.
What is only written differently (a reshape for a broadcast) comes to equal values again and is
passed over.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from harness.bisecting.capture import Node, Trace

FORWARD = ("loss",)


@dataclass(frozen=True)
class Distance:
    """How far two arrays of one type and shape are apart.

    ulps: the most representable numbers that lie between two elements, None where one is not
    finite. relative: the norm of the difference over that of the first.
    """

    equal: int
    size: int
    ulps: int | None
    relative: float


@dataclass(frozen=True)
class Row:
    """A named tensor, of one layer where the array holds all: None where both sides are equal."""

    tensor: str
    layer: int | None
    order: int
    distance: Distance | None


@dataclass(frozen=True)
class Parting:
    """The first difference: `a` and `b` are the operations, None where a side has none of its own.

    kind: activations, gradients, updates or state; tensor: the parameter that it is about, or lies
    beside.
    """

    kind: str
    tensor: str
    layer: int | None
    a: Node | None
    b: Node | None
    distance: Distance | None


def distance(a: np.ndarray, b: np.ndarray) -> Distance | None:
    """The distance of two arrays; None where their types or shapes differ."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return None
    kind = {2: np.int16, 4: np.int32, 8: np.int64, 1: np.int8}[a.dtype.itemsize]
    bits = [np.ascontiguousarray(one).view(kind).astype(np.int64) for one in (a, b)]
    equal = int((bits[0] == bits[1]).sum())
    if not jnp.issubdtype(a.dtype, jnp.floating):
        wide = [one.astype(np.float64) for one in (a, b)]
        return Distance(equal, a.size, None, _relative(*wide))
    # Bits of floating-point numbers, as integers in the numbers' own order.
    lowest = -(2 ** (8 * a.dtype.itemsize - 1))
    ordered = [np.where(one < 0, lowest - one, one) for one in bits]
    wide = [one.astype(np.float64) for one in (a, b)]
    finite = all(np.isfinite(one).all() for one in wide)
    ulps = int(np.abs(ordered[0] - ordered[1]).max(initial=0)) if finite else None
    return Distance(equal, a.size, ulps, _relative(*wide))


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    difference, norm = float(np.linalg.norm(a - b)), float(np.linalg.norm(a))
    return difference / norm if norm else (0.0 if difference == 0 else float("inf"))


def part(a: Trace, b: Trace, layer_axes: Mapping[str, int | None]) -> Parting | None:
    """The first difference of two traces; None when all their outputs are equal bit for bit.

    layer_axes: for each parameter, the axis of its array along which layers are stacked.
    """
    differing = [
        path for path, node in a.outputs.items() if node.fingerprint != b.outputs[path].fingerprint
    ]
    for path in FORWARD:
        if path in differing:
            node, other = roots(a, b, [path])
            return _parting("activations", node, other, a, b)
    for kind in ("metrics", "gradients", "updates", "state"):
        paths = [path for path in differing if path.startswith(f"{kind}/")]
        if paths:
            return _of_tensors(kind, paths, a, b, layer_axes)
    return None


def roots(a: Trace, b: Trace, paths: Iterable[str]) -> tuple[Node | None, Node | None]:
    """On each side, the first operation on the way to these outputs that the other side lacks."""
    found = []
    for one, other in ((a, b), (b, a)):
        known = {node.fingerprint for node in other.nodes}
        way = lacking(
            [one.outputs[path] for path in paths],
            lambda node, known=known: node.fingerprint in known,  # type: ignore[misc]
        )
        following = [node for node in way if node.follows_tokens]
        found.append(min(following or way, key=lambda node: node.order, default=None))
    return found[0], found[1]


def lacking(outputs: list[Node], is_known: Callable[[Node], bool]) -> list[Node]:
    """What leads to the outputs by values that are not known."""
    seen: dict[int, Node] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.order not in seen and not is_known(node):
            seen[node.order] = node
            waiting += node.inputs
    return list(seen.values())


def _of_tensors(
    kind: str, paths: list[str], a: Trace, b: Trace, layer_axes: Mapping[str, int | None]
) -> Parting:
    """The first of these gradients or updates, in the order in which they are computed."""
    candidates = []
    for path in paths:
        node, other = roots(a, b, [path])
        orders = [one.order for one in (node, other) if one is not None]
        candidates.append((min(orders, default=0), a.outputs[path].order, path, node, other))
    _, _, path, node, other = min(candidates, key=lambda one: one[:2])
    tensor = path.partition("/")[2]
    rows = _output_rows(a, b, path, layer_axes.get(tensor))
    worst = [row for row in rows if row.distance is not None]
    # A backward pass comes to the last layer first.
    row = worst[-1] if worst else rows[0]
    return Parting(kind, tensor, row.layer, node, other, row.distance)


def _parting(kind: str, node: Node | None, other: Node | None, a: Trace, b: Trace) -> Parting:
    one = node or other
    assert one is not None
    tensor, layer = place(one, a if node is not None else b)
    apart = None
    if node is not None and other is not None and node.operation == other.operation:
        apart = distance(node.values, other.values)
    return Parting(kind, tensor, layer, node, other, apart)


def place(node: Node, trace: Trace) -> tuple[str, int | None]:
    """The parameter that an operation takes, or those it lies between; and its layer."""
    if node.parameters:
        tensor = ", ".join(sorted(node.parameters))
        return tensor, layer_of(node, tensor)
    before = _nearest(node, trace, -1)
    after = _nearest(node, trace, 1)
    module = _module(node, trace)
    words = [
        *([module] if module else []),
        *([f"after {before}"] if before else []),
        *([f"before {after}"] if after else []),
    ]
    # Statistics belong to the norm that they are for: what comes next says more than what was.
    return ", ".join(words), layer_of(node, module or after or before or "")


def layer_of(node: Node, tensor: str) -> int | None:
    """The layer of a scan, or the one that a path such as h_3/mlp names."""
    if node.at.layer is not None:
        return node.at.layer
    numbers = re.findall(r"(?:^|[/_])(\d+)(?=/|$)", tensor)
    return int(numbers[0]) if numbers else None


def _nearest(node: Node, trace: Trace, way: int) -> str | None:
    """The parameter taken last before, or first after, on the way of the tokens."""
    end = -1 if way < 0 else len(trace.nodes)
    for order in range(node.order + way, end, way):
        near = trace.nodes[order]
        if near.follows_tokens and near.parameters:
            return ", ".join(sorted(near.parameters))
    return None


def _module(node: Node, trace: Trace) -> str:
    """The innermost module of the parameter tree that the scope of an operation names."""
    scope = re.findall(r"\w+", node.at.scope)
    modules = {
        path.rpartition("/")[0].rsplit("/", depth)[0]
        for one in trace.nodes
        if one.operation == "parameters"
        for path in one.parameters
        for depth in range(path.count("/"))
    }
    named = [module for module in modules if _is_within(module.split("/"), scope)]
    return max(named, key=lambda module: (module.count("/"), module), default="")


def _is_within(parts: list[str], scope: list[str]) -> bool:
    rest = iter(scope)
    return all(part in rest for part in parts)


def rows(a: Trace, b: Trace, kind: str, layer_axes: Mapping[str, int | None]) -> list[Row]:
    """Each named tensor's activations, gradient or update, in the order of the computation."""
    if kind == "activations":
        return _activation_rows(a, b)
    found = [
        row
        for path in a.outputs
        if path.startswith(f"{kind}/")
        for row in _output_rows(a, b, path, layer_axes.get(path.partition("/")[2]))
    ]
    return sorted(found, key=lambda row: row.order)


def _output_rows(a: Trace, b: Trace, path: str, axis: int | None) -> list[Row]:
    node = a.outputs[path]
    pair = node.values, b.outputs[path].values
    tensor = path.partition("/")[2]
    if axis is None:
        return [_row(tensor, layer_of(node, tensor), node.order, *pair)]
    return [
        _row(tensor, layer, node.order, *(np.take(one, layer, axis) for one in pair))
        for layer in range(pair[0].shape[axis])
    ]


def _row(tensor: str, layer: int | None, order: int, a: np.ndarray, b: np.ndarray) -> Row:
    apart = distance(a, b)
    equal = apart is not None and apart.equal == apart.size
    unlike = Distance(0, a.size, None, float("nan"))  # another type or shape
    return Row(tensor, layer, order, None if equal else apart or unlike)


def partners(a: Trace, b: Trace) -> dict[int, Node]:
    """The nodes of a that are known to be b's, by the order of these: outputs and activations."""
    sides = (_taken(a), _taken(b))
    found = {node.order: sides[0][name] for name, node in sides[1].items() if name in sides[0]}
    return found | {node.order: a.outputs[path] for path, node in b.outputs.items()}


def _taken(trace: Trace) -> dict[tuple[str, int | None], Node]:
    """What each parameter is first taken into in the forward pass."""
    taken: dict[tuple[str, int | None], Node] = {}
    for node in trace.nodes[: trace.outputs["loss"].order + 1]:
        if node.follows_tokens and node.parameters:
            tensor = ", ".join(sorted(node.parameters))
            taken.setdefault((tensor, layer_of(node, tensor)), node)
    return taken


def _activation_rows(a: Trace, b: Trace) -> list[Row]:
    """What each parameter is first taken into, on both sides."""
    sides = (_taken(a), _taken(b))
    return [
        _row(tensor, layer, node.order, node.values, sides[1][tensor, layer].values)
        for (tensor, layer), node in sides[0].items()
        if (tensor, layer) in sides[1]
    ]
