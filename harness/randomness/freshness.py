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

_STEPS = 3
_TRIES = 8  # keys: a mask of few elements is often another one's too
WIDEST = 4  # words of a key, of any kind
_QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}  # it runs a few times

# Of variables, any tree, and the step's key: what is told of the step, and its variables after it.
Step = Callable[[Any, jax.Array], tuple[Any, Any]]


class Key(NamedTuple):
    """A key that a step draws with.

    moment: larger for what is drawn later. stays: whether the next step draws with it too.
    """

    line: str
    moment: tuple[Any, ...]
    stays: bool


class Drawn:
    """What a step draws, over three steps; nothing else of them is computed.

    begin: the variables before the first step. key: each step's, of its number. unseen: lines whose
    draws cannot be followed.
    """

    def __init__(
        self, begin: Callable[[], Any], step: Step, key: Callable[[int], jax.Array]
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
        self._shapes = [words.shape[:-1] for words in found[:sites]]
        self._words = [
            [np.asarray(rows(words)) for words in found[step * sites : (step + 1) * sites]]
            for step in range(_STEPS)
        ]
        before, after = np.split(np.arange(_STEPS * sites, len(found)), 2)
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
        """The words of each draw, step after step; then all counters before and after them."""
        variables = begun = jax.tree.leaves(self._begin())
        words = []
        for number in range(_STEPS):
            followed = draws.follow(self._program, [*variables, self._key(number)])
            variables = followed.outputs[self._told :]
            words += [draw.words for draw in followed.draws]
            self._draws = [draw._replace(words=None) for draw in followed.draws]
            self.unseen = followed.unseen
        return words + [held[n] for held in (begun, variables) for n in self._counters.values()]

    def keys(self) -> list[Key]:
        """The keys of the first step in the order in which they are noted, draw by draw."""
        found = []
        for site, (draw, shape) in enumerate(zip(self._draws, self._shapes, strict=True)):
            loops = sum(is_loop for _, is_loop in draw.path)
            before = {row.tobytes() for row in self._words[0][site]}
            for place, row in zip(np.ndindex(*shape), self._words[1][site], strict=True):
                turns = iter(place[:loops])
                path = [(at, next(turns) if is_loop else 0) for at, is_loop in draw.path]
                moment = (*path, place[loops:])
                found.append(Key(draw.line, moment, row.tobytes() in before))
        return found

    def words(self) -> np.ndarray:
        """uint32 [keys, W]: the words of these keys."""
        return np.concatenate([np.zeros((0, WIDEST), np.uint32), *self._words[0]])

    def stale(self) -> dict[str, tuple[int, int]]:
        """By line, how many draws have a key that the step before has there too, and of how many.

        Lines whose draws are fresh are left out.
        """
        found: dict[str, tuple[int, int]] = {}
        for site, line in enumerate(self._lines):
            before, *later = ({row.tobytes() for row in step[site]} for step in self._words)
            repeated = 0
            for after in later:
                repeated = max(repeated, len(after & before))
                before = after
            some, every = found.get(line, (0, 0))
            found[line] = (some + repeated, every + len(before))
        return {line: (some, every) for line, (some, every) in found.items() if some}

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
                return jnp.where(sites[draws.place(keys, table)] == changed, other, keys)

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
