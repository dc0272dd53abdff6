"""Reads optimised XLA programs: what they cost, what they send, and whether two are the same."""

from harness.hlo.canonical import canonical, fingerprint
from harness.hlo.collectives import (
    COLLECTIVE_KINDS,
    chain,
    collectives,
    describe_collective,
    list_collectives,
)
from harness.hlo.cost import fusion_cycles, list_cycles, matmuls, uncosted
from harness.hlo.difference import Difference, diff
from harness.hlo.exactness import inexact, warnings
from harness.hlo.kinds import KINDS
from harness.hlo.loops import walk
from harness.hlo.parse import Computation, Instruction, Program, parse, references
from harness.hlo.place import where
from harness.hlo.sources import source
from harness.hlo.texts import stablehlo_sha256, text

__all__ = [
    "COLLECTIVE_KINDS",
    "KINDS",
    "Computation",
    "Difference",
    "Instruction",
    "Program",
    "buffers",
    "canonical",
    "chain",
    "collectives",
    "describe_collective",
    "diff",
    "fingerprint",
    "fusion_cycles",
    "inexact",
    "list_collectives",
    "list_cycles",
    "matmuls",
    "parse",
    "parts",
    "references",
    "source",
    "stablehlo_sha256",
    "text",
    "uncosted",
    "walk",
    "warnings",
    "where",
]
