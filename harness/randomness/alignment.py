"""Two steps that draw at random made to draw alike: the n-th key of one is the n-th of the other.

Keys that both have are left as they are, and so is what a side does with a key: one that it takes
twice gives the same numbers twice, and one that repeats from step to step still does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from harness.randomness import draws
from harness.randomness.freshness import Drawn, rows

_OWN = -1  # no number: the draw is made with the side's own key


@dataclass(frozen=True)
class Numbers:
    """Of each key of a side, in the order in which they are noted: its number, or none.

    again: after how many steps the side draws with it again, 0 for never; one that the next step
    has too stays in every step. first: the first step's key, as words, from which those follow.
    """

    numbers: np.ndarray  # int32 [keys]
    again: np.ndarray  # int32 [keys]
    first: np.ndarray  # uint32 [W]
    lines: tuple[str, ...]  # of the keys that are numbered, in the order of their numbers

    @property
    def any(self) -> bool:
        """Whether anything is drawn otherwise than the side would."""
        return bool(self.lines)

    @property
    def stays(self) -> np.ndarray:
        """bool [keys]: whether its number gives the same key in every step."""
        return self.again == 1


def numbered(a: Drawn, b: Drawn) -> tuple[Numbers, Numbers]:
    """The numbers of the keys that the sides do not have in common, each side's from 0 on."""
    known = [{row.tobytes() for row in side.words() if _is_usual(row)} for side in (a, b)]
    return _numbered(a, known[1]), _numbered(b, known[0])


def _numbered(side: Drawn, others: set[bytes]) -> Numbers:
    keys, words = side.keys(), [row.tobytes() for row in side.words()]
    found: dict[bytes, int] = {}
    lines = []
    for place in sorted(range(len(keys)), key=lambda place: keys[place].moment):
        if words[place] not in others and words[place] not in found:
            found[words[place]] = len(found)
            lines.append(keys[place].line)
    numbers = np.asarray([found.get(one, _OWN) for one in words], np.int32)
    again = np.asarray([key.again for key in keys], np.int32)
    return Numbers(numbers, again, side.first, tuple(lines))


def _is_usual(row: np.ndarray) -> bool:
    """Whether words are those of a threefry key, as those that are drawn with instead."""
    return not row[2:].any()


def aligned(function: Callable[..., Any], numbers: Numbers) -> Callable[..., Any]:
    """The function, with a step's key as its last argument, with its draws made by these numbers.

    A number's key follows from the step's, or from the first step's where the draw's own key stays
    the same: in the first step the two sides then draw alike, and later as they do by themselves.
    """

    def drawn_alike(*arguments: Any) -> Any:
        inputs, key = jax.tree.leaves(arguments), arguments[-1]
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        program = draws.live(closed)

        def keys(*inputs: Any) -> list[jax.Array]:
            return [draw.words for draw in draws.follow(program, inputs).draws]

        alone = draws.live(jax.make_jaxpr(keys)(*inputs))
        table = jnp.concatenate([*map(rows, core.jaxpr_as_fun(alone)(*inputs))])  # [keys, W]
        count = jnp.asarray(np.maximum(numbers.numbers, 0).astype(np.uint32))
        if numbers.stays.any():
            first = jax.random.wrap_key_data(jnp.asarray(numbers.first), impl="threefry2x32")
            key = draws.chosen(numbers.stays, first, key)
        new = draws.folded(jnp.broadcast_to(key, count.shape), count)

        def exchange(own: jax.Array) -> jax.Array:
            place = draws.place(own, table)
            if own.dtype != new.dtype:  # of another kind, which is always numbered
                return new[place]
            return draws.chosen(jnp.asarray(numbers.numbers)[place] == _OWN, own, new[place])

        outputs = draws.follow(program, inputs, exchange).outputs
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return drawn_alike
