"""What an equation of a traced program says: its line, what it calls, and how it is computed."""

import functools
import math
import sysconfig
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core, source_info_util
from jax.interpreters import partial_eval

_LIBRARY = Path(sysconfig.get_path("stdlib"))
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_INSTALLED = ("site-packages", "dist-packages")
# What models are built of. Any other package that is installed may be the one that they come from.
_FRAMEWORKS = """aqt beartype chex distrax einops einshape equinox flax grain haiku jax jaxlib
 jaxtyping jmp ml_dtypes numpy opt_einsum optax orbax penzai qwix scipy tokamax typeguard"""


def source(equation: Any) -> str:
    """The innermost line that is of no framework, such as `models/ops.py:12`, or ""."""
    traceback = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not _is_foreign(frame.file_name):
            return f"{_near(Path(frame.file_name))}:{frame.line_num}"
    return ""


def _near(path: Path) -> Path:
    """The path from the current folder or, of what is installed, from where packages lie."""
    within = _within_package(path)
    if within is not None:
        return within
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


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


def settings(equation: Any) -> str:
    """What an equation is told that shows on some devices alone, or for indices out of range."""
    options = equation.params
    if "precision" in options:
        told = options["precision"]
        both = told if isinstance(told, tuple) else (told,)
        names = {getattr(one, "name", str(one)).lower() for one in both if one is not None}
        return f"precision {'/'.join(sorted(names)) or 'default'}"
    mode = options.get("mode")
    return "" if mode is None else f"mode {getattr(mode, 'name', str(mode)).lower()}"


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


def keys_given(equation: Any) -> list[int]:
    """Which inputs are keys."""
    kinds = enumerate(atom.aval.dtype for atom in equation.invars)
    return [n for n, kind in kinds if jnp.issubdtype(kind, jax.dtypes.prng_key)]


def keys_taken(equation: Any) -> list[int]:
    """Which inputs of a function with derivatives of its own are keys that it takes in a pass."""
    keys = keys_given(equation)
    if not keys:
        return []
    kinds = enumerate(atom.aval.dtype for atom in equation.invars)
    moved = [n for n, kind in kinds if jnp.issubdtype(kind, jnp.floating)]

    def both_passes(taken: list[Any]) -> Any:
        def forward(*values: Any) -> list[Any]:
            given = dict(zip(moved, values, strict=True))
            return bound(equation, [given.get(n, one) for n, one in enumerate(taken)])

        made, backward = jax.vjp(forward, *(taken[n] for n in moved))
        return made, backward([_cotangent(one) for one in made])

    shapes = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
    jaxpr = jax.make_jaxpr(both_passes)(shapes).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return [n for n in keys if used[n]]


def _cotangent(made: Any) -> Any:
    if jnp.issubdtype(made.dtype, jnp.floating):
        return jnp.ones_like(made)
    return np.zeros(made.shape, jax.dtypes.float0)


def scope(equation: Any) -> AbstractContextManager[object]:
    """What is traced meanwhile has the equation's line and lies in its scope."""
    info = equation.source_info
    stack = source_info_util.current_name_stack() + info.name_stack
    context: AbstractContextManager[object] = source_info_util.user_context(
        info.traceback, name_stack=stack
    )
    return context


@functools.cache
def _is_foreign(file: str) -> bool:
    """Whether a line of this file is told as its caller's: of Python itself or of a framework."""
    within = _within_package(Path(file))
    if within is not None:
        return within.parts[0] in _FRAMEWORKS.split()
    return file.startswith("<") or Path(file).is_relative_to(_LIBRARY)


def _within_package(path: Path) -> Path | None:
    """The path below the folder of packages that it is installed in; None: in none."""
    places = [place for place, part in enumerate(path.parts[:-1]) if part in _INSTALLED]
    return Path(*path.parts[places[-1] + 1 :]) if places else None
