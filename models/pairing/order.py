"""In which order a computation first takes its inputs, and whether it draws random numbers."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval

_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "branches", "body_jaxpr", "cond_jaxpr")


def first_uses(closed: core.ClosedJaxpr) -> list[int | None]:
    """For each input, a number that is smaller the sooner it is taken; None: it never is."""
    known: dict[int, int] = {}
    _walk(closed.jaxpr, [*range(len(closed.jaxpr.invars))], known, count())
    return [known.get(number) for number in range(len(closed.jaxpr.invars))]


def _walk(
    jaxpr: core.Jaxpr, inputs: Sequence[int | None], known: dict[int, int], clock: Iterator[int]
) -> None:
    """Notes when the inputs, each a number or None, are first taken."""
    numbers = {id(variable): one for variable, one in zip(jaxpr.invars, inputs, strict=True)}
    for equation in jaxpr.eqns:
        taken = [numbers.get(id(atom)) for atom in equation.invars]
        called = list(within(equation))
        for inner in called:
            # Leading operands may be consumed outside, such as the index of a cond.
            last = taken[len(taken) - len(inner.invars) :]
            if len(last) == len(inner.invars):
                _walk(inner, last, known, clock)
        if called:
            continue
        now = next(clock)
        for one in taken:
            if one is not None:
                known.setdefault(one, now)
        # What is only cast or turned is still the input itself.
        if len(equation.invars) == 1 and equation.primitive.name in _PASSED_ON:
            for variable in equation.outvars:
                if taken[0] is not None:
                    numbers[id(variable)] = taken[0]


def taken(closed: core.ClosedJaxpr) -> list[bool]:
    """Of each input, whether anything that is computed depends on it."""
    every = [True] * len(closed.jaxpr.outvars)
    return list(partial_eval.dce_jaxpr(closed.jaxpr, every)[1])


_PASSED_ON = ("convert_element_type", "copy")


def draws(closed: core.ClosedJaxpr) -> bool:
    """Whether a computation draws random numbers that it takes."""
    used = [True] * len(closed.jaxpr.outvars)
    return _draws(partial_eval.dce_jaxpr(closed.jaxpr, used)[0])


def _draws(jaxpr: core.Jaxpr) -> bool:
    return any(
        equation.primitive.name == "random_bits" or any(map(_draws, within(equation)))
        for equation in jaxpr.eqns
    )


def within(equation: Any) -> Iterator[core.Jaxpr]:
    """The programs that an equation calls."""
    for key in _CALLED:
        found = equation.params.get(key, ())
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one
