"""What an operation is there for: so that a difference of programs can be told in a word."""

import re
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
