"""Whether what is drawn at random is drawn anew in each step, and whether it is taken at all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from harness.randomness import draws
from harness.randomness.draws import Draw

_STEPS = 16  # what repeats in fewer is seen
_TRIES = 8  # keys: a mask of few elements is often another one's too
WIDEST = 4  # words of a key, of any kind
_QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}  # it runs a few times

# Of variables, any tree, and the step's key: what is told of the step, and its variables after it.
Step = Callable[[Any, jax.Array], tuple[Any, Any]]


class Key(NamedTuple):
    """A key that a step draws with.

    moment: larger for what is drawn later. again: after how many steps it is drawn with again, 0
    for never.
    """

    line: str
    moment: tuple[Any, ...]
    again: int


class Stale(NamedTuple):
    """Of the draws of a line: how many have a key of an earlier step, and after how many steps."""

    some: int
    every: int
    again: int


class Drawn:
    """What a step draws, over several steps; nothing else of them is computed.

    begin: the variables before the first step. key: each step's, of its number. unseen: lines whose
    draws cannot be followed.
    """

    def __init__(
        self, begin: Callable[[], Any], step: Step, key: Callable[[Any], jax.Array]
    ) -> None:
        self._begin, self._key = begin, key
        closed, told = jax.make_jaxpr(step, return_shape=True)(*jax.eval_shape(self._inputs))
        self._program = draws.live(closed)
        self._told = len(jax.tree.leaves(told[0]))
        self._draws: list[Draw] = []
        self.unseen: list[str] = []
        leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(begin))
        self._counters = {
            jax.tree_util.keystr(path, simple=True, separator="/"): place
            for place, (path, leaf) in enumerate(leaves)
            if jnp.issubdtype(leaf.dtype, jnp.integer)
        }
        keys_alone = draws.live(jax.make_jaxpr(self._several)())
        found = jax.jit(core.jaxpr_as_fun(keys_alone)).lower().compile(_QUICK)()
        sites = len(self._draws)
        self._shapes = [words.shape[1:-1] for words in found[:sites]]
        self._words = [
            [np.asarray(rows(words[step])) for words in found[:sites]] for step in range(_STEPS)
        ]
        before, after = np.split(np.arange(sites, len(found)), 2)
        self._stay = {
            path
            for path, first, last in zip(self._counters, before, after, strict=True)
            if np.array_equal(found[first], found[last])
        }

    @property
    def _lines(self) -> list[str]:
        return [draw.line for draw in self._draws]

    @property
    def first(self) -> np.ndarray:
        """uint32 [W]: the words of the first step's key."""
        return np.asarray(draws.words(self._key(0)))

    def _inputs(self) -> tuple[Any, jax.Array]:
        return self._begin(), self._key(0)

    def _several(self) -> list[jax.Array]:
        """The words of each draw [steps, ...]; then all counters before and after them."""

        def step(variables: Any, number: jax.Array) -> tuple[Any, Any]:
            followed = draws.follow(self._program, [*variables, self._key(number)])
            self._draws = [draw._replace(words=None) for draw in followed.draws]
            self.unseen = followed.unseen
            return followed.outputs[self._told :], [draw.words for draw in followed.draws]

        begun = jax.tree.leaves(self._begin())
        after, words = jax.lax.scan(step, begun, jnp.arange(_STEPS))
        return words + [held[n] for held in (begun, after) for n in self._counters.values()]

    def keys(self) -> list[Key]:
        """The keys of the first step in the order in which they are noted, draw by draw."""
        found = []
        for site, (draw, shape) in enumerate(zip(self._draws, self._shapes, strict=True)):
            loops = sum(is_loop for _, is_loop in draw.path)
            steps = self._by_step(site)
            for place, row in zip(np.ndindex(*shape), self._words[0][site], strict=True):
                turns = iter(place[:loops])
                path = [(at, next(turns) if is_loop else 0) for at, is_loop in draw.path]
                moment = (*path, place[loops:])
                later = (n for n, held in enumerate(steps) if n and row.tobytes() in held)
                found.append(Key(draw.line, moment, next(later, 0)))
        return found

    def words(self) -> np.ndarray:
        """uint32 [keys, W]: the words of these keys."""
        return np.concatenate([np.zeros((0, WIDEST), np.uint32), *self._words[0]])

    def _by_step(self, site: int) -> list[set[bytes]]:
        """The keys of a draw, step by step."""
        return [{row.tobytes() for row in step[site]} for step in self._words]

    def stale(self) -> dict[str, Stale]:
        """What is drawn with keys of earlier steps, by line; fresh draws are left out."""
        found: dict[str, Stale] = {}
        for site, line in enumerate(self._lines):
            steps = self._by_step(site)
            some, again = 0, _STEPS
            for number, after in enumerate(steps):
                for gap in range(1, number + 1):
                    repeated = len(after & steps[number - gap])
                    some, again = max(some, repeated), min(again, gap if repeated else again)
            before = found.get(line, Stale(0, 0, _STEPS))
            every = before.every + len(steps[-1])
            found[line] = Stale(before.some + some, every, min(before.again, again))
        return {line: one for line, one in found.items() if one.some}

    def standing(self, line: str) -> list[str]:
        """Paths of integers that the keys at this line are made from, and that no step changes."""

        def words(*inputs: Any) -> list[jax.Array]:
            followed = draws.follow(self._program, inputs)
            return [draw.words for draw in followed.draws if draw.line == line]

        closed = jax.make_jaxpr(words)(*jax.tree.leaves(jax.eval_shape(self._inputs)))
        _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
        return [path for path, n in self._counters.items() if used[n] and path in self._stay]

    def shared(self) -> list[tuple[str, ...]]:
        """The lines of draws that are made with one key in one step, where there are several."""
        places: dict[bytes, list[str]] = {}
        for line, words in zip(self._lines, self._words[0], strict=True):
            for row in {row.tobytes() for row in words}:
                places.setdefault(row, []).append(line)
        return sorted({tuple(sorted(lines)) for lines in places.values() if len(lines) > 1})

    def idle(self) -> list[str]:
        """Lines whose draws could be any others: nothing that is told of the step depends on them.

        This computes the step, many times. What is drawn for a backward pass alone shows nowhere,
        so that functions with derivatives of their own are left out.
        """
        table = self.words()
        sites = jnp.repeat(jnp.arange(len(self._lines)), jnp.asarray([*map(len, self._words[0])]))

        def told(inputs: Any, changed: jax.Array, salt: jax.Array) -> list[jax.Array]:
            def exchange(keys: jax.Array) -> jax.Array:
                other = draws.folded(keys, salt)
                return draws.chosen(sites[draws.place(keys, table)] == changed, other, keys)

            given = jax.tree.leaves(inputs)
            return draws.follow(self._program, given, exchange).outputs[: self._told]

        if not self._lines:
            return []
        inputs = jax.jit(self._inputs).lower().compile(_QUICK)()
        compiled = jax.jit(told).lower(inputs, jnp.int32(0), jnp.uint32(0)).compile(_QUICK)

        def run(site: int, salt: int) -> list[bytes]:
            found = compiled(inputs, jnp.int32(site), jnp.uint32(salt))
            return [np.asarray(one).tobytes() for one in found]

        usual = run(-1, 0)
        return sorted(
            {
                line
                for site, line in enumerate(self._lines)
                if not self._draws[site].handed
                and all(run(site, salt) == usual for salt in range(_TRIES))
            }
        )


def rows(words: Any) -> jax.Array:
    """uint32 [keys, W] of the words [..., W'] of keys, filled up with zeros."""
    flat = words.reshape(-1, words.shape[-1])
    return jnp.pad(flat, ((0, 0), (0, WIDEST - flat.shape[1])))
