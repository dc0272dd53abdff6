"""JAX's path of an operation, shortened to where it stands in the model."""

import re
from functools import lru_cache

# What transforms and control flow put between the names of modules.
_PLUMBING = frozenset(
    (
        "while",
        "body",
        "cond",
        "scan",
        "closed_call",
        "eval_jaxpr",
        "checkpoint",
        "remat",
        "remat2",
        "rematted_computation",
        "shard_map",
        "pjit",
        "core_call",
        "custom_vjp_call",
        "custom_jvp_call",
    )
)
# An einsum's formula, a method (layers.forward), the outermost module's class; but not what Linen
# calls a module without a name, by its class and number: Dense_0.
_NO_PLACE = re.compile(r"->|\.|^[A-Z](?!.*_\d+$)|^$")
# A name that XLA made up, such as broadcast.8.
_MADE_UP = re.compile(r"[a-z_-]+\.\d+")
_WRAPPED = re.compile(r"[\w<>.-]+\((.*)\)$")


@lru_cache(maxsize=65536)
def where(op_name: str) -> str:
    """Such as decoder/layers/mlp/wi_0 (backward), from jit(step)/transpose(jvp(decoder))/....

    Left out: jitted functions, transforms, loops and the operation itself, which comes last.
    "(backward)" and "(recomputed)" say which pass it belongs to. An argument of the program has
    its name alone, such as state['step']. Empty: no name, or one that tells no place.
    """
    first = op_name.partition(";")[0]  # merged operations carry several names
    parts = _components(first)
    if len(parts) == 1:
        return "" if _MADE_UP.fullmatch(first) else first
    names = [_unwrapped(part) for part in parts[:-1] if "jit(" not in part]
    path = "/".join(name for name in names if name not in _PLUMBING and not _NO_PLACE.search(name))
    if "rematted_computation" in first:
        return f"{path} (recomputed)".strip()
    return f"{path} (backward)".strip() if "transpose(" in first else path


def _components(op_name: str) -> list[str]:
    """Splits at slashes outside of parentheses."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(op_name):
        depth += (character == "(") - (character == ")")
        if character == "/" and depth == 0:
            parts.append(op_name[start:index])
            start = index + 1
    return [part for part in [*parts, op_name[start:]] if part]


def _unwrapped(part: str) -> str:
    """decoder, from transpose(jvp(decoder))."""
    while found := _WRAPPED.match(part):
        part = found[1]
    return part
