"""Follows a program to its random draws: the keys that it draws with, and draws with other ones.

A loop stays a loop, so that what only the keys need can be compiled alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from harness.randomness import equations

_DRAWS = ("random_bits", "threefry2x32", "random_gamma", "rng_bit_generator")
_REMAT = ("checkpoint", "remat", "remat2")  # as versions of JAX call it
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
Exchange = Callable[[jax.Array], jax.Array]  # of keys, those to draw with instead


class Draw(NamedTuple):
    """One place that draws, in the order of the program.

    words: uint32 [..., W] of the keys, of which there are several in a loop or for a batch of them.
    path: where in the program it stands, and in the programs that it calls; whether each is a loop,
    over whose turns an axis of the words goes. handed: that it is within a function that has
    derivatives of its own, in either pass; the keys are those that the function is given.
    """

    line: str
    words: Any
    path: tuple[tuple[int, bool], ...] = ()
    handed: bool = False


@dataclass(frozen=True)
class Followed:
    """What a program makes and what it drew for it; unseen: lines whose draws are not followed."""

    outputs: list[Any]
    draws: list[Draw]
    unseen: list[str]


def live(closed: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """The program without what no output depends on, such as a fresh model's parameters."""
    used = [True] * len(closed.jaxpr.outvars)
    kept, _ = partial_eval.dce_jaxpr(closed.jaxpr, used, instantiate=True)
    return core.ClosedJaxpr(kept, closed.consts)


def follow(
    closed: core.ClosedJaxpr, inputs: Sequence[Any], exchange: Exchange | None = None
) -> Followed:
    """Computes a program and notes its draws; exchange: with which keys they are made instead.

    Not followed are draws within branches and loops of unknown length and, where keys are
    exchanged, those of keys that a function makes itself that has derivatives of its own.
    """
    walk = _Walk(exchange)
    outputs, draws = walk.closed(closed, inputs, "")
    return Followed(outputs, draws, sorted(walk.unseen))


def words(keys: jax.Array) -> jax.Array:
    """The words of keys, uint32 [..., W]."""
    if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(keys)
    return keys.astype(jnp.uint32)


def place(keys: jax.Array, table: Any) -> jax.Array:
    """Of keys [...], the first row of a table of words [draws, W] that is each one's."""
    known = words(keys)
    rows = jnp.asarray(table)[:, : known.shape[-1]]
    return jnp.argmax((known[..., None, :] == rows).all(-1), axis=-1)


def chosen(condition: Any, keys: jax.Array, others: jax.Array) -> jax.Array:
    """Keys [...] where the condition [...] holds, else others.

    By their words: JAX does not lower a selection of keys that lie otherwise on a mesh.
    """
    one, other = (words(jnp.broadcast_to(each, condition.shape)) for each in (keys, others))
    found = jnp.where(jnp.asarray(condition)[..., None], one, other)
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(others))


def folded(keys: jax.Array, data: jax.Array) -> jax.Array:
    """Keys [...], each folded with data, one for all or one each."""
    fold = jax.random.fold_in
    each = jax.vmap(fold)(keys.reshape(-1), jnp.broadcast_to(data, keys.shape).reshape(-1))
    return each.reshape(keys.shape)


@dataclass
class _Walk:
    """An interpreter of programs."""

    exchange: Exchange | None
    unseen: set[str] = field(default_factory=set)

    def closed(
        self, closed: core.ClosedJaxpr, inputs: Sequence[Any], line: str
    ) -> tuple[list[Any], list[Draw]]:
        return self.open(closed.jaxpr, [*closed.consts, *inputs], line)

    def open(
        self, jaxpr: core.Jaxpr, inputs: Sequence[Any], line: str
    ) -> tuple[list[Any], list[Draw]]:
        """line: where the draws are called from, where the program's own lines tell nothing."""
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))
        draws: list[Draw] = []

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else known[atom]

        for place, equation in enumerate(jaxpr.eqns):
            found, drawn = self._equation(equation, [*map(read, equation.invars)], line)
            known.update(zip(equation.outvars, found, strict=True))
            at = (place, equation.primitive.name == "scan")
            draws += [draw._replace(path=(at, *draw.path)) for draw in drawn]
        return [read(atom) for atom in jaxpr.outvars], draws

    def _equation(self, equation: Any, taken: list[Any], line: str) -> tuple[list[Any], list[Draw]]:
        name = equation.primitive.name
        here = line or equations.source(equation) or "a library"
        if name in _DRAWS:
            return self._draw(equation, taken, here)
        keys = equations.keys_taken(equation) if name in _CUSTOM else []
        if keys:
            return self._hand(equation, taken, keys, here)
        if not _draws_within(equation):
            return equations.bound(equation, taken), []
        inner = equations.called_from(equation, line)
        called = equations.called(equation)
        if called is None or (name in _CUSTOM and self.exchange is not None):
            self.unseen.add(here)
            return equations.bound(equation, taken), []
        with equations.scope(equation):
            if name == "scan":
                return self._scan(equation.params, taken, inner)
            if name in _REMAT:
                return self._again(equation.params, called, taken, inner)
            return self.closed(called, taken, inner)

    def _draw(self, equation: Any, taken: list[Any], line: str) -> tuple[list[Any], list[Draw]]:
        if equation.primitive.name == "threefry2x32":
            drawn = jnp.stack(jnp.broadcast_arrays(*taken[:2]), axis=-1)
        else:
            drawn = words(taken[0])
        if self.exchange is not None and equation.primitive.name == "random_bits":
            taken = [self.exchange(taken[0]), *taken[1:]]
        return equations.bound(equation, taken), [Draw(line, drawn)]

    def _hand(
        self, equation: Any, taken: list[Any], keys: list[int], line: str
    ) -> tuple[list[Any], list[Draw]]:
        """A function that has derivatives of its own draws with the keys that it is given."""
        drawn = [Draw(line, words(taken[n]), handed=True) for n in keys]
        if self.exchange is not None:
            for n in keys:
                taken[n] = self.exchange(taken[n])
        return equations.bound(equation, taken), drawn

    def _again(
        self, options: Any, called: core.ClosedJaxpr, taken: list[Any], line: str
    ) -> tuple[list[Any], list[Draw]]:
        """What is computed again in the backward pass stays so."""
        told: list[Draw] = []

        def run(*inputs: Any) -> Any:
            outputs, draws = self.closed(called, inputs, line)
            told[:] = [draw._replace(words=None) for draw in draws]
            return outputs, [draw.words for draw in draws]

        remat = jax.checkpoint(run, prevent_cse=options["prevent_cse"], policy=options["policy"])
        outputs, drawn = remat(*taken)
        return outputs, _with(told, drawn)

    def _scan(self, options: Any, taken: list[Any], line: str) -> tuple[list[Any], list[Draw]]:
        consts, carries = equations.counts(options)
        fixed, carried = taken[:consts], taken[consts : consts + carries]
        told: list[Draw] = []

        def turn(carry: Any, given: Any) -> Any:
            outputs, draws = self.closed(options["jaxpr"], [*fixed, *carry, *given], line)
            told[:] = [draw._replace(words=None) for draw in draws]
            return outputs[:carries], (outputs[carries:], [draw.words for draw in draws])

        last, (stacked, drawn) = jax.lax.scan(
            turn,
            carried,
            taken[consts + carries :],
            options["length"],
            options["reverse"],
            options["unroll"],
        )
        return [*last, *stacked], _with(told, drawn)


def _with(draws: Sequence[Draw], words: Sequence[jax.Array]) -> list[Draw]:
    return [draw._replace(words=one) for draw, one in zip(draws, words, strict=True)]


def _draws_within(equation: Any) -> bool:
    return any(
        _may_draw(one) or _draws_within(one)
        for inner in core.jaxprs_in_params(equation.params)
        for one in inner.eqns
    )


def _may_draw(equation: Any) -> bool:
    name = equation.primitive.name
    return name in _DRAWS or (name in _CUSTOM and bool(equations.keys_given(equation)))
