"""What an equation of a traced program says: its line, what it calls, and how it is computed."""

import math
import sysconfig
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jax.extend import core, source_info_util

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_INSTALLED = ("site-packages", "dist-packages")


def source(equation: Any) -> str:
    """The innermost line that is not of an installed library, such as `models/ops.py:12`, or ""."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not _is_foreign(frame.file_name):
            path = Path(frame.file_name)
            near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{near}:{frame.line_num}"
    return ""


def called_from(equation: Any, outer: str) -> str:
    """The line that all within a called program is to be told of; "": each has its own.

    A library's function that is compiled for itself may have been traced before, from another line.
    """
    if outer or equation.primitive.name not in ("jit", "pjit"):
        return outer
    file = equation.params["jaxpr"].jaxpr.debug_info.func_filename
    return source(equation) if file is None or _is_foreign(file) else ""


def counts(options: Any) -> tuple[int, int]:
    """How many of a scan's inputs are the same in every turn, and how many are carried on."""
    if "ft_in" not in options:  # JAX before 0.12
        return options["num_consts"], options["num_carry"]
    consts, carries, _ = map(len, options["ft_in"].unpack())
    return consts, carries


def terms(equation: Any) -> int:
    """Of how many numbers each number that an equation makes is the sum."""
    name, options = equation.primitive.name, equation.params
    shapes = [getattr(atom.aval, "shape", ()) for atom in equation.invars]
    made = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        (axes, _), _ = options["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in axes)
    if name == "conv_general_dilated":
        return math.prod(shapes[1]) // max(1, shapes[1][options["dimension_numbers"].rhs_spec[0]])
    if name == "cumsum":
        return int(shapes[0][options["axis"]])
    if name == "scatter-add":
        return math.prod(shapes[-1]) // max(1, made)
    return math.prod(shapes[0]) // max(1, made) if name == "reduce_sum" else 1


def called(equation: Any) -> core.ClosedJaxpr | None:
    """The one program that an equation calls; None: several, or one again, or on each device."""
    if equation.primitive.name in ("while", "shard_map"):
        return None
    for key in _CALLS:
        called = equation.params.get(key)
        if isinstance(called, core.ClosedJaxpr):
            return called
        if isinstance(called, core.Jaxpr):
            return core.ClosedJaxpr(called, ())
    return None


def bound(equation: Any, taken: Sequence[Any]) -> list[Any]:
    """What an equation makes of its inputs."""
    told = equation.primitive.get_bind_params(equation.params)
    functions, options = told if isinstance(told, tuple) else ((), told)  # JAX before 0.10
    with equation.ctx.manager, scope(equation):
        found = equation.primitive.bind(*functions, *taken, **options)
    return list(found) if equation.primitive.multiple_results else [found]


def scope(equation: Any) -> AbstractContextManager[object]:
    """What is traced meanwhile has the equation's line and lies in its scope."""
    info = equation.source_info
    stack = source_info_util.current_name_stack() + info.name_stack
    context: AbstractContextManager[object] = source_info_util.user_context(
        info.traceback, name_stack=stack
    )
    return context


def _is_foreign(file: str) -> bool:
    path = Path(file)
    installed = any(name in path.parts for name in _INSTALLED)
    return installed or file.startswith("<") or path.is_relative_to(_LIBRARY)
