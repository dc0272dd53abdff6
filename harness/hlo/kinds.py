"""What an operation is there for: so that a difference of programs can be told in a word."""

import math
import re
from collections.abc import Iterable
from typing import Literal

from harness.hlo.parse import Instruction

Kind = Literal["mathematics", "random numbers", "state carried in and out", "grouping and layout"]
# The most telling first.
KINDS: tuple[Kind, ...] = (
    "mathematics",
    "random numbers",
    "state carried in and out",
    "grouping and layout",
)

_CARRYING = frozenset(("parameter", "tuple", "get-tuple-element", "opt-barrier"))
# Of the module: what goes in and out, in which order and memory.
CARRYING_HEADERS = frozenset(("entry_computation_layout", "input_output_alias", "buffer_donor"))
# Call or hold other operations, whose own differences are told; or compute nothing.
_GROUPING = frozenset(
    (
        *("fusion", "call", "while", "conditional", "async-start", "async-update", "async-done"),
        *("copy", "copy-start", "copy-done", "bitcast", "after-all", "add-dependency"),
    )
)
_RANDOM = re.compile(r"threefry|random_|rng|_bernoulli|_uniform|_gumbel|_normal\b|shuffle")
_OF_KEYS = ("u32", "u64")  # what generators compute in, and models do not
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_BESIDE_KEYS = ("s32", "s64", "pred")  # a generator counts its rounds, and picks words of a key
_WORDS = 4  # that a key has at most


def draws(shapes: Iterable[str]) -> bool:
    """Whether a computation of these shapes computes keys, and no numbers of a model."""
    arrays = {found for shape in shapes for found in _ARRAY.findall(shape)}
    beside = [one for one in arrays if one[0] not in _OF_KEYS]
    return len(beside) < len(arrays) and all(
        name in _BESIDE_KEYS and math.prod(map(int, filter(None, sizes.split(",")))) <= _WORDS
        for name, sizes in beside
    )


def kind_of(instruction: Instruction) -> Kind:
    """Which kind of operation it is, by its opcode, the type of its result and its JAX name."""
    opcode = instruction.opcode
    if opcode in _CARRYING:
        return "state carried in and out"
    if opcode in _GROUPING:
        return "grouping and layout"
    told = f"{instruction.op_name} {instruction.attributes.get('custom_call_target', '')}"
    is_random = opcode.startswith("rng") or _RANDOM.search(told)
    if is_random or instruction.shape.dtype in _OF_KEYS:
        return "random numbers"
    return "mathematics"
