"""Whether what differs is rounding or a fault: each operation's own error, given equal inputs.

Side b is computed once more, with a's values in place of its own wherever they correspond, so that
each of its operations is given what a's was given. What its result is apart from a's is its own
error. How large one may be by rounding alone is measured: both sides are computed again with every
value moved by a unit in the last place of its format.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.bisecting.capture import Change, Node, Trace
from harness.bisecting.parting import lacking

LIMIT = 1.0  # times what moved values make; what is rounding makes 0.2 to 0.8 of that
# A sum rounds once for each of its terms, which moving them does not show: two sums of so many
# numbers of one sign, taken in two orders, are on the average a unit in the last place apart.
_FEW_TERMS = 32
_CHANCE = 3  # by how many times the average a single number may be farther
_NEAR = 0.02  # values of one operation that are so far apart may still be each other's
_NEAREST = 4  # candidates whose whole arrays are looked at
_SEEDS = (1, 2)
# Whose results may be wider than what they are computed from.
_CARRIERS = ("constant", "convert_element_type", "dot_general", "parameters", "tokens", "input")
Run = Callable[[Change], Trace]


@dataclass(frozen=True)
class Judged:
    """A value that both sides have, computed by b from a's values: how far it is from a's.

    at, own: the value in a's trace, and as b makes it. error, rounding: norms of a difference over
    that of a's value; what b makes, and the most that moved values made of either side. a, b: the
    first operations on the way that correspond to none of the other side's, or that of the value
    itself. formats: the finest that each side computes in on the way, where they are not the same.
    """

    at: Node
    own: Node
    a: Node
    b: Node
    error: float
    rounding: float
    formats: tuple[str, str] | None

    @property
    def times(self) -> float:
        """How many times what rounding makes."""
        return self.error / self.rounding if self.error else 0.0

    @property
    def is_rounding(self) -> bool:
        """Whether no more than rounding in one format is needed to explain it."""
        return self.times <= LIMIT and self.formats is None


def judge(a: Trace, run_a: Run | None, run_b: Run, partners: Mapping[int, Node]) -> list[Judged]:
    """Every value of b that corresponds to one of a's and is another, in b's order.

    partners: nodes of a that are known to correspond to b's, by the order of these. run_a, run_b:
    compute a side, with a change of its values; without run_a rounding is b's alone.
    """
    match = _Matching(a, partners)
    errors: dict[int, float] = {}
    made: dict[int, np.ndarray] = {}  # by b, where it is not what a has

    def substitute(node: Node) -> Any:
        right = match.find(node)
        if right is None:
            return node.array
        apart = relative(node.values, right.values)
        if not apart:
            return node.array
        errors[node.order], made[node.order] = apart, node.values
        return _in_place(right.array, node.array)

    b = run_b(substitute)
    known = {order: node.array for order, node in match.found.items()}
    of_b = _rounding(run_b, made, known)
    mine = {match.found[order].order: match.found[order].values for order in errors}
    of_a: dict[int, float] = {}
    if run_a is not None:
        of_a = _rounding(run_a, mine, {node.order: node.array for node in match.found.values()})
    known_a = {one.order for one in match.found.values()}
    judged = []
    for order, error in errors.items():
        node, right = b.nodes[order], match.found[order]
        least = float(jnp.finfo(node.array.dtype if is_float(node.array) else jnp.float32).eps)
        allowed = max(of_b[order], of_a.get(right.order, 0.0), least)
        ways = (_way(right, known_a), _way(node, match.found.keys()))
        allowed *= max(1.0, _of_sums([*ways[0], *ways[1]]))
        firsts = _first(ways[0]), _first(ways[1])
        judged.append(Judged(right, node, *firsts, error, allowed, _formats(*ways)))
    return judged


def _way(node: Node, known: Collection[int]) -> list[Node]:
    """What leads to a value, itself included, and corresponds to nothing of the other side's."""
    return lacking([node], lambda one: one.order in known and one is not node)


def _first(way: list[Node]) -> Node:
    following = [one for one in way if one.follows_tokens]
    return min(following or way, key=lambda one: one.order)


def _of_sums(way: Iterable[Node]) -> float:
    """How many times what moving the terms of the sums on a way makes they may round by.

    Of many sums the norm is near the average; that of a single one is a matter of chance.
    """
    return max(
        (one.terms / _FEW_TERMS) ** 0.5 * (1 + _CHANCE / max(1, one.array.size) ** 0.5)
        for one in way
    )


def _formats(a: list[Node], b: list[Node]) -> tuple[str, str] | None:
    """The finest formats of two ways, None where they are the same or one way is a single step."""
    finest = []
    for way in (a, b):
        dtypes = {one.array.dtype for one in way[1:]
                  if is_float(one.array) and one.operation not in _CARRIERS}  # fmt: skip
        finest.append(min(dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps), default=None))
    if None in finest or finest[0] == finest[1]:
        return None
    return str(finest[0]), str(finest[1])


def _rounding(
    run: Run, wanted: Mapping[int, np.ndarray], known: Mapping[int, Any]
) -> dict[int, float]:
    """By order, how far moved values bring a side's results from what they are unmoved.

    known: the arrays that are moved and computed on with in place of the side's own.
    """
    found = dict.fromkeys(wanted, 0.0)
    for seed in _SEEDS:
        generator = np.random.Generator(np.random.PCG64(seed))

        def move(node: Node, generator: np.random.Generator = generator) -> Any:
            if node.order in wanted:
                apart = relative(node.values, wanted[node.order])
                found[node.order] = max(found[node.order], apart)
            return moved(_in_place(known.get(node.order, node.array), node.array), generator)

        run(move)
    return found


def _in_place(right: Any, own: Any) -> Any:
    """One value where another one was, in its format and on its devices; if it can be."""
    if right is own or right.shape != own.shape:
        return own
    if right.dtype != own.dtype and not (is_float(right) and is_float(own)):
        return own  # equal bits may be a key's or its words'
    if own.dtype == jax.dtypes.float0 or jnp.issubdtype(own.dtype, jax.dtypes.prng_key):
        return own
    return jax.device_put(np.asarray(right).astype(own.dtype), own.sharding)


def moved(array: Any, generator: np.random.Generator) -> Any:
    """The array with each number moved by a unit in its last place, up or down; integers stay."""
    if not is_float(array):
        return array
    values = np.asarray(array)
    wide = values.astype(np.float64)
    step = float(jnp.finfo(array.dtype).eps) * generator.choice((-1.0, 1.0), values.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        return jax.device_put((wide * (1 + step)).astype(values.dtype), array.sharding)


def is_float(array: Any) -> bool:
    """Whether an array is of floating point."""
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def relative(value: np.ndarray, right: np.ndarray) -> float:
    """The norm of the difference over that of the right value; infinite for other shapes."""
    both_float = is_float(value) and is_float(right)
    if value.shape != right.shape or (value.dtype != right.dtype and not both_float):
        return float("inf")
    if value.dtype == right.dtype and value.tobytes() == right.tobytes():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        one, other = value.astype(np.float64), right.astype(np.float64)
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        difference = np.linalg.norm(np.where(same, 0.0, one - other))
        norm = np.linalg.norm(np.where(np.isfinite(other), other, 0.0))
    if not np.isfinite(difference):
        return float("inf")
    return float(difference / norm) if norm else (float("inf") if difference else 0.0)


class _Matching:
    """Which of a's values each of b's is: one that is given, one of its bits, or the nearest."""

    def __init__(self, a: Trace, partners: Mapping[int, Node]) -> None:
        self.found: dict[int, Node] = {}
        self._partners = partners
        self._taken = {node.order for node in partners.values()}
        self._bits: dict[bytes, Node] = {}
        self._kinds: dict[Any, list[Node]] = {}
        for node in a.nodes:
            self._bits.setdefault(node.fingerprint, node)
            is_made = is_float(node.array) and node.operation != "constant"
            if is_made and node.order not in self._taken:
                self._kinds.setdefault((node.array.dtype, node.array.shape), []).append(node)
        self._signs: dict[Any, np.ndarray] = {}

    def find(self, node: Node) -> Node | None:
        """The one that corresponds, noted; None where nothing does."""
        right = self._partners.get(node.order) or self._bits.get(node.fingerprint)
        if right is None and is_float(node.array) and node.operation != "constant":
            right = self._near(node)
        if right is not None:
            self.found[node.order] = right
            self._taken.add(right.order)
        return right

    def _near(self, node: Node) -> Node | None:
        kind = (node.array.dtype, node.array.shape)
        nodes = self._kinds.get(kind, [])
        if not nodes:
            return None
        if kind not in self._signs:
            self._signs[kind] = np.stack([_sign(one.values) for one in nodes])
        far = np.abs(self._signs[kind] - _sign(node.values)).max(axis=1)
        candidates = [nodes[n] for n in np.argsort(far) if nodes[n].order not in self._taken]
        near = [
            (relative(node.values, one.values), one.order, one) for one in candidates[:_NEAREST]
        ]
        other = min(1024 * float(jnp.finfo(node.array.dtype).eps), _NEAR)
        near = [
            (apart, order, one)
            for apart, order, one in near
            if apart < (_NEAR if one.operation == node.operation else other)
        ]
        return min(near, key=lambda one: one[:2])[2] if near else None


def _sign(values: np.ndarray) -> np.ndarray:
    """A few numbers that lie near each other for arrays that do."""
    flat = np.nan_to_num(values.astype(np.float64).ravel(), posinf=0, neginf=0)
    weights = np.cos(np.arange(flat.size) ** 1.5)
    return np.asarray([np.linalg.norm(flat), flat @ weights])
