"""Computes a function operation by operation and keeps every value, with where it came from.

Scans are unrolled, so that each layer's values stand apart; calls, rematerialisation and custom
derivatives are walked through. It takes the memory of everything the function ever computes.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from harness.randomness import draws, equations
from models.shared.trees import named_leaves

BRANCH = "branch"  # of several one is taken: the node is the number of it
_PARAMETERS, _TOKENS, _INPUT = "parameters", "tokens", "input"


class Place(NamedTuple):
    """Where in the program a value is computed."""

    scope: str = ""
    source: str = ""  # such as models/ops.py:12
    layer: int | None = None  # of the scan that it is computed in
    called_from: str = ""  # the line that all within a library's function is told of


@dataclass(eq=False)
class Node:
    """One value.

    order: its place in the computation. follows_tokens: whether it depends on the batch.
    parameters: the paths of those that it takes as they are, cast, cut or turned; through an
    operation on values that follow the tokens they are not handed on. terms: of how many numbers
    each of its numbers is the sum. settings: what else the operation was told, that need not show
    in its numbers here.
    """

    order: int
    operation: str
    array: Any = field(repr=False)
    inputs: tuple["Node", ...] = field(default=(), repr=False)
    literals: tuple[Any, ...] = ()
    at: Place = field(default_factory=Place)
    follows_tokens: bool = False
    parameters: frozenset[str] = field(default_factory=frozenset)
    terms: int = 1
    settings: str = ""

    @property
    def handed_on(self) -> frozenset[str]:
        """The parameters that whoever takes this value takes with it."""
        return frozenset() if self.follows_tokens else self.parameters

    @cached_property
    def values(self) -> np.ndarray:
        """The value on the host; of random keys, their words."""
        array = self.array
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        return np.asarray(array)

    @cached_property
    def level(self) -> float | None:
        """The one number that it holds, None for several."""
        values = self.values
        if not values.size or (values != values.flat[0]).any():
            return None
        return float(values.flat[0])

    @cached_property
    def fingerprint(self) -> bytes:
        """Equal for values of equal type, shape and bits."""
        values = self.values
        told = f"{values.dtype}{values.shape}".encode()
        return hashlib.blake2b(told + values.tobytes(), digest_size=16).digest()


Change = Callable[[Node], Any]


@dataclass(frozen=True)
class Trace:
    """All values of one computation in order, and its outputs by path."""

    nodes: list[Node]
    outputs: dict[str, Node]

    @property
    def parameters(self) -> dict[str, Node]:
        """The parameters by path, as they are given."""
        return {
            path: node
            for node in self.nodes
            if node.operation == _PARAMETERS
            for path in node.parameters
        }

    @cached_property
    def weighed(self) -> set[int]:
        """The orders of all that depends on parameters."""
        return self._following(_PARAMETERS)

    @cached_property
    def given(self) -> set[int]:
        """The orders of all that depends on anything that the computation is given."""
        return self._following(_PARAMETERS, _TOKENS, _INPUT)

    def _following(self, *operations: str) -> set[int]:
        found: set[int] = set()
        for node in self.nodes:
            if node.operation in operations or any(one.order in found for one in node.inputs):
                found.add(node.order)
        return found


def capture(
    function: Callable[..., Any],
    params: Any,
    tokens: Any,
    *rest: Any,
    change: Change | None = None,
) -> Trace:
    """Computes `function(params, tokens, *rest)`, a dict of trees, and keeps every value it needs.

    change: of each node as it is computed, the array that is computed on with.
    """
    arguments = (params, tokens, *rest)
    return _walked(*jax.make_jaxpr(function, return_shape=True)(*arguments), arguments, change)


def compiled(function: Callable[..., Any], *arguments: Any) -> Trace:
    """`capture` of arrays that several devices share, by one program that fuses no operations.

    Each operation compiled for itself would take minutes. What a branch computes is not seen.
    """
    traced = jax.make_jaxpr(function, return_shape=True)(*arguments)
    found: list[Trace] = []

    def compute(*arguments: Any) -> list[Any]:
        found.append(_walked(*traced, arguments, _apart))
        return [node.array for node in found[-1].nodes]

    arrays = jax.jit(compute)(*arguments)
    for node, array in zip(found[-1].nodes, arrays, strict=True):
        node.array = array
    return found[-1]


def _apart(node: Node) -> Any:
    """The value, held apart from what is computed of it."""
    is_key = jnp.issubdtype(node.array.dtype, jax.dtypes.prng_key)
    return node.array if is_key else jax.lax.optimization_barrier(node.array)


def _walked(
    closed: core.ClosedJaxpr, shapes: Any, arguments: tuple[Any, ...], change: Change | None
) -> Trace:
    params, tokens, *rest = arguments
    walk = _Walk(change)
    inputs = [
        walk.add(_PARAMETERS, leaf, named=path) for path, leaf in named_leaves(params).items()
    ]
    inputs += [walk.add(_TOKENS, leaf) for leaf in jax.tree.leaves(tokens)]
    inputs += [walk.add(_INPUT, leaf) for leaf in jax.tree.leaves(rest)]
    outputs = walk.closed(draws.live(closed), inputs, Place())
    return Trace(walk.nodes, dict(zip(named_leaves(shapes), outputs, strict=True)))


class _Walk:
    """An interpreter of jaxprs that remembers."""

    def __init__(self, change: Change | None) -> None:
        self.nodes: list[Node] = []
        self._change = change

    def add(self, operation: str, array: Any, named: str | None = None, **about: Any) -> Node:
        inputs: tuple[Node, ...] = about.get("inputs", ())
        parameters = frozenset[str]().union(*(node.handed_on for node in inputs))
        node = Node(
            order=len(self.nodes),
            operation=operation,
            array=array,
            follows_tokens=operation == _TOKENS or any(one.follows_tokens for one in inputs),
            parameters=parameters if named is None else frozenset([named]),
            **about,
        )
        if self._change is not None:
            node.array = self._change(node)
        self.nodes.append(node)
        return node

    def closed(self, closed: core.ClosedJaxpr, inputs: Sequence[Node], at: Place) -> list[Node]:
        consts = [self.add("constant", jnp.asarray(const)) for const in closed.consts]
        return self.open(closed.jaxpr, [*consts, *inputs], at)

    def open(self, jaxpr: core.Jaxpr, inputs: Sequence[Node], at: Place) -> list[Node]:
        known: dict[Any, Node] = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

        def read(atom: Any) -> Node:
            if isinstance(atom, core.Literal):
                return self.add(
                    "constant", jnp.asarray(atom.val, getattr(atom.aval, "dtype", None))
                )
            return known[atom]

        for equation in jaxpr.eqns:
            taken = [read(atom) for atom in equation.invars]
            known.update(zip(equation.outvars, self._equation(equation, taken, at), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, taken: list[Node], outer: Place) -> list[Node]:
        stack = str(equation.source_info.name_stack)
        at = Place(
            "/".join(part for part in (outer.scope, stack) if part),
            outer.called_from or equations.source(equation) or outer.source,
            outer.layer,
            equations.called_from(equation, outer.called_from),
        )
        name = equation.primitive.name
        if name == "scan":
            return self._scan(equation, taken, at)
        if name == "cond" and not isinstance(taken[0].array, jax.core.Tracer):
            index, *taken = taken
            self.add(BRANCH, index.array, inputs=(index,), at=at)
            return self.closed(equation.params["branches"][int(index.array)], taken, at)
        called = equations.called(equation)
        if called is not None:
            return self.closed(called, taken, at)
        found = [one.array for one in taken]
        # A single device computes one value after the other: the mesh of a layout is not there.
        if name != "sharding_constraint" or isinstance(found[0], jax.core.Tracer):
            found = equations.bound(equation, found)
        about: dict[str, Any] = {
            "inputs": tuple(taken),
            "literals": tuple(
                atom.val
                for atom in equation.invars
                if isinstance(atom, core.Literal) and np.ndim(atom.val) == 0
            ),
            "at": at,
            "terms": equations.terms(equation),
            "settings": equations.settings(equation),
        }
        return [self.add(name, array, **about) for array in found]

    def _scan(self, equation: Any, taken: list[Node], at: Place) -> list[Node]:
        options = equation.params
        consts, carries = equations.counts(options)
        fixed, carried, scanned = (
            taken[:consts],
            taken[consts : consts + carries],
            taken[consts + carries :],
        )
        of_layers = any(node.handed_on for node in scanned)
        numbers = range(options["length"])
        stacked: list[list[Node]] = []
        for number in reversed(numbers) if options["reverse"] else numbers:
            inside = at._replace(layer=number if of_layers else at.layer)
            slices = [
                self.add("slice of scan", node.array[number], inputs=(node,), at=inside)
                for node in scanned
            ]
            found = self.closed(options["jaxpr"], [*fixed, *carried, *slices], inside)
            carried = found[:carries]
            stacked.append(found[carries:])
        if options["reverse"]:
            stacked.reverse()
        return carried + [
            self.add(
                "stack of scan", jnp.stack([one.array for one in column]), inputs=column, at=at
            )
            for column in zip(*stacked, strict=True)
        ]
