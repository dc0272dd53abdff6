"""Reads optimised XLA programs: what they cost, what they send, and whether two are the same."""

from harness.hlo.canonical import canonical, fingerprint
from harness.hlo.collectives import Collective, collectives, list_collectives
from harness.hlo.cost import Cycles, Matmul, fusion_cycles, list_cycles, matmuls, uncosted
from harness.hlo.difference import Difference, diff
from harness.hlo.exactness import inexact, warnings
from harness.hlo.kernels import stablehlo_sha256
from harness.hlo.loops import Loop, walk
from harness.hlo.parse import Computation, Instruction, Program, Shape, parse, text
from harness.hlo.place import where

__all__ = [
    "Collective",
    "Computation",
    "Cycles",
    "Difference",
    "Instruction",
    "Loop",
    "Matmul",
    "Program",
    "Shape",
    "canonical",
    "collectives",
    "diff",
    "fingerprint",
    "fusion_cycles",
    "inexact",
    "list_collectives",
    "list_cycles",
    "matmuls",
    "parse",
    "stablehlo_sha256",
    "text",
    "uncosted",
    "walk",
    "warnings",
    "where",
]
