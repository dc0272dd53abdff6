"""The text of an optimised XLA program as a tree of small dataclasses."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from harness.terminal.errors import UserError

# An attribute that names computations. Everything else that starts with % is an instruction.
CALLERS = (
    "calls",
    "to_apply",
    "body",
    "condition",
    "branch_computations",
    "true_computation",
    "false_computation",
    "called_computations",
    "select",
    "scatter",
)

_START = re.compile(r"\s+(ROOT )?%?([^\s=(){},]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([^\s(]+) .*\{$")
_OPCODE = re.compile(r"\s*([a-z][a-z0-9-]*)\(")
_ATTRIBUTE = re.compile(r"[,\s]*([a-zA-Z_-]+)=")
# A quoted string counts as one token: kernels and names inside it hold brackets and commas.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[(){}\[\],]')
_OPERAND = re.compile(r"%?([^\s,()]+)\s*(?:,|$)")
_COMMENT = re.compile(r"/\*.*?\*/")
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([^\]]*)\]\s*(\{.*\})?$")
_REFERENCE = re.compile(r"%([^\s,(){}]+)")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_NO_ESTIMATE = 2**63 - 1  # what the compiler writes where it has none
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')


@dataclass(frozen=True)
class Shape:
    """An array, or a tuple of shapes (then `elements` are set and the rest is empty)."""

    dtype: str
    dimensions: tuple[int, ...] = ()
    layout: str = ""
    elements: tuple["Shape", ...] = ()

    @property
    def arrays(self) -> tuple["Shape", ...]:
        """The arrays in it, from left to right."""
        if self.dtype != "tuple":
            return (self,)
        return tuple(array for element in self.elements for array in element.arrays)

    @property
    def bytes(self) -> int:
        """Bytes of the values themselves, without the padding of a tiled layout."""
        return sum(array._array_bytes for array in self.arrays)

    @property
    def _array_bytes(self) -> int:
        width = re.search(r"\d+", self.dtype)  # bf16, f8e4m3fn, s4; token and opaque have none
        bits = int(width[0]) if width else 8 if self.dtype == "pred" else 0
        return math.ceil(math.prod(self.dimensions) * bits / 8)

    @property
    def is_index(self) -> bool:
        """Whether it is one integer, such as a loop counter."""
        return self.dtype[0] in "su" and not self.dimensions and self.dtype != "tuple"

    def __str__(self) -> str:
        if self.dtype == "tuple":
            return f"({', '.join(map(str, self.elements))})"
        return f"{self.dtype}[{','.join(map(str, self.dimensions))}]"


@dataclass(frozen=True, eq=False)
class Instruction:
    """One operation; `literal` is the text in the parentheses of a constant or parameter."""

    name: str
    opcode: str
    shape: Shape
    operands: tuple[str, ...]
    literal: str
    attributes: dict[str, str]

    @cached_property
    def op_name(self) -> str:
        """JAX's path of the operation, such as jit(step)/decoder/mlp/dot_general, or empty."""
        found = _OP_NAME.search(self.attributes.get("metadata", ""))
        return found[1].replace('\\"', '"').replace("\\'", "'") if found else ""

    @cached_property
    def cycles(self) -> int | None:
        """The compiler's own estimate for one execution, where it gives one (TPU)."""
        found = _CYCLES.search(self.attributes.get("backend_config", ""))
        cycles = int(found[1]) if found else _NO_ESTIMATE
        return cycles if cycles < _NO_ESTIMATE else None

    @cached_property
    def called(self) -> tuple[str, ...]:
        """Names of the computations it calls."""
        return tuple(name for key in CALLERS for name in references(self.attributes.get(key, "")))

    @property
    def target(self) -> str:
        """What a custom-call calls, or empty."""
        return self.attributes.get("custom_call_target", "").strip('"')


@dataclass(frozen=True, eq=False)
class Computation:
    """Instructions by name, in the order of the text: each after its operands."""

    name: str
    instructions: dict[str, Instruction]
    root: Instruction

    def operands(self, instruction: Instruction) -> tuple[Instruction, ...]:
        """The instructions whose results `instruction` takes."""
        return tuple(self.instructions[name] for name in instruction.operands)


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled module: attributes of its first line, computations by name, where it starts.

    tables: the lines between these, FileNames to StackFrames, which tell of the source.
    """

    header: dict[str, str]
    computations: dict[str, Computation]
    entry: Computation
    tables: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        """How many devices run it together."""
        sizes = (self.header.get(key, "1") for key in ("num_partitions", "replica_count"))
        return math.prod(map(int, sizes))


def parse(text: str) -> Program:
    """Reads what `jax.stages.Compiled.as_text()` or `text(compiled)` gives.

    UserError: not one XLA program.
    """
    lines = text.lstrip().split("\n")
    if not lines[0].startswith("HloModule "):
        raise UserError("not the text of a compiled XLA program: it must begin with HloModule")
    computations: dict[str, Computation] = {}
    entry = None
    tables: list[str] = []
    remaining = iter(lines[1:])
    for line in remaining:
        found = _COMPUTATION.match(line)
        if found:
            computation = _computation(found[2], remaining)
            computations[computation.name] = computation
            entry = computation if found[1] else entry
        elif line:
            tables.append(line)
    if entry is None:
        raise UserError("the text of the XLA program has no ENTRY computation: is it cut off?")
    _, _, header = lines[0].partition(",")
    return Program(_attributes(header), computations, entry, tuple(tables))


def references(value: str) -> tuple[str, ...]:
    """The names after each % in an attribute's value."""
    return tuple(_REFERENCE.findall(value))


def _computation(name: str, lines: Iterator[str]) -> Computation:
    """Reads up to the lone brace that ends a computation."""
    instructions: dict[str, Instruction] = {}
    root = None
    for is_root, instruction_name, rest in _logical_lines(name, lines):
        instruction = _instruction(instruction_name, rest)
        instructions[instruction_name] = instruction
        root = instruction if is_root else root
    if root is None:
        raise UserError(f"computation {name} of the XLA program has no ROOT: is the text cut off?")
    return Computation(name, instructions, root)


def _logical_lines(name: str, lines: Iterator[str]) -> Iterator[tuple[bool, str, str]]:
    """Joins instructions that span several lines (kernel metadata does)."""
    parts: list[str] = []
    is_root, instruction = False, ""
    counted = depth = 0  # the parts whose brackets were counted, and how many of these are open
    for line in lines:
        found = _START.match(line)
        ends = False
        if line == "}" or line.startswith("}, execution_thread"):
            depth += sum(map(_opened, parts[counted:]))
            counted, ends = len(parts), depth == 0
        if parts and (found or ends):
            yield is_root, instruction, "\n".join(parts)
        if ends:
            return
        if found:
            is_root, instruction, parts = bool(found[1]), found[2], [line[found.end() :]]
            counted = depth = 0
        else:
            parts.append(line)
    raise UserError(f"computation {name} of the XLA program does not end: is the text cut off?")


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text[0] == "(" else text.index(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        raise UserError(f"cannot read instruction {name} of the XLA program: {text[:80]!r}")
    close = _closing(text, opcode.end() - 1)
    inside = text[opcode.end() : close - 1]
    is_literal = opcode[1] in ("constant", "parameter")
    return Instruction(
        name=name,
        opcode=opcode[1],
        shape=_shape(text[:end]),
        operands=() if is_literal else _operands(inside),
        literal=inside if is_literal else "",
        attributes=_attributes(text[close:]),
    )


def _operands(text: str) -> tuple[str, ...]:
    """Names from `%a, f32[8,2]{1,0} %b, /*index=2*/%c`, with or without shapes and %."""
    if "%" in text:
        return references(_COMMENT.sub("", text))
    return tuple(_OPERAND.findall(_COMMENT.sub("", text)))


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise UserError(f"unbalanced brackets in the XLA program: {text[start : start + 80]!r}")


def _opened(part: str) -> int:
    """How many brackets more are opened than closed."""
    tokens = [token[0] for token in _TOKEN.finditer(part)]
    return sum(t in "([{" for t in tokens) - sum(t in ")]}" for t in tokens)


def _attributes(text: str) -> dict[str, str]:
    """Splits `, key=value, key=value` at the commas outside of brackets and quotes."""
    attributes: dict[str, str] = {}
    key, start, depth = "", 0, 0
    for token in _TOKEN.finditer(text + ","):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
        elif token[0] == "," and depth == 0:
            piece = text[start : token.start()]
            found = _ATTRIBUTE.match(piece)
            if found and found[1] != "device_ids":
                key = found[1]
                attributes[key] = piece[found.end() :].strip()
            elif piece.strip():  # `mesh['a'=2], device_ids=(1,0) {'a'}` is one value
                attributes[key] = f"{attributes.get(key, '')}, {piece.strip()}"
            start = token.end()
    return attributes


@lru_cache(maxsize=65536)
def _shape(text: str) -> Shape:
    text = _COMMENT.sub("", text).strip()
    if text.startswith("("):
        return Shape("tuple", elements=tuple(map(_shape, _split(text[1:-1]))))
    found = _ARRAY.match(text)
    if found is None:
        raise UserError(f"cannot read shape {text!r} of the XLA program")
    dimensions = tuple(int(size.strip(" <=")) for size in found[2].split(",") if size.strip())
    return Shape(found[1], dimensions, found[3] or "")


def _split(text: str) -> list[str]:
    """Splits at the commas outside of brackets."""
    pieces, start, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] == "," and depth == 0:
            pieces.append(text[start : token.start()])
            start = token.end()
        elif token[0] != ",":
            depth += 1 if token[0] in "([{" else -1 if token[0] in ")]}" else 0
    return [piece for piece in [*pieces, text[start:]] if piece.strip()]
