"""Random draws that are the same in every step, seen in the program of a step.

Nothing is computed: a draw is fresh when what it draws from follows from something that another
step has anew, which is the step's key or a key or counter that the step itself changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.extend import core

from models.pairing.order import within

_DRAWS = ("random_bits", "threefry2x32")
_LIBRARIES = ("site-packages", "dist-packages")


def draws(closed: core.ClosedJaxpr, anew: Sequence[bool]) -> tuple[int, list[str]]:
    """How many draws a program has, and the source lines of those that no step has anew.

    anew: for each input, whether another step has another one.
    """
    found: list[tuple[bool, str]] = []
    _walk(closed.jaxpr, list(anew), found, "")
    return len(found), sorted({line for is_fresh, line in found if not is_fresh})


def _walk(
    jaxpr: core.Jaxpr, anew: Sequence[bool], found: list[tuple[bool, str]], line: str
) -> list[bool]:
    """Notes each draw; returns which outputs another step has anew.

    line: where a program that is compiled for itself is called. It may have been traced before,
    from another place, so that its own lines tell nothing.
    """
    known = {id(variable): one for variable, one in zip(jaxpr.invars, anew, strict=True)}
    for equation in jaxpr.eqns:
        taken = [known.get(id(atom), False) for atom in equation.invars]
        inner = list(within(equation))
        out = any(taken)
        outs = [out] * len(equation.outvars)
        here = line or _source(equation)
        for one in inner:
            last = taken[len(taken) - len(one.invars) :]
            if len(last) < len(one.invars):  # consumed in a way that is not known here
                last = [out] * len(one.invars)
            compiled = equation.primitive.name in ("jit", "pjit")
            inside = _walk(one, last, found, here if compiled else line)
            if len(inside) == len(outs):
                outs = [a or b for a, b in zip(outs, inside, strict=True)]
        if not inner and equation.primitive.name in _DRAWS and _is_used(equation, jaxpr):
            found.append((out, here or "a library"))
        known |= {id(v): one for v, one in zip(equation.outvars, outs, strict=True)}
    return [known.get(id(atom), False) for atom in jaxpr.outvars]


def _is_used(equation: Any, jaxpr: core.Jaxpr) -> bool:
    """Whether anything takes what is drawn, as nothing does of a fresh model's parameters."""
    wanted = {id(atom) for atom in jaxpr.outvars}
    for later in reversed(jaxpr.eqns):
        if later is equation:
            break
        if any(id(variable) in wanted for variable in later.outvars) or later.effects:
            wanted |= {id(atom) for atom in later.invars}
    return any(id(variable) in wanted for variable in equation.outvars)


def _source(equation: Any) -> str:
    """The innermost line that is not of an installed library, such as mine.py:12, or ""."""
    traceback = equation.source_info.traceback
    here = Path(__file__).parent
    for frame in traceback.frames if traceback is not None else ():
        path = Path(frame.file_name)
        foreign = any(name in path.parts for name in _LIBRARIES) or "lib/python" in str(path)
        if not foreign and path.parent != here and "<" not in frame.file_name:
            return f"{path.name}:{frame.line_num}"
    return ""
