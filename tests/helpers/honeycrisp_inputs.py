"""Inputs of tests/data/honeycrisp_figures.json, made of integers: the same on any machine.

The figures are what AXLearn's own trainer computes of them (commit 2f7291ca, JAX 0.4.33, a CPU).
A hash of an element's place, in the order in which an array lies, is its value.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FIGURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "honeycrisp_figures.json").read_text()
)
LAYER = "decoder/transformer/repeat/layer"
TABLE = "decoder/emb/token_emb/weight"
STEPS, DROPPED = 10, 4  # of the trainer; the step whose batch makes too large a gradient
SETTINGS = (
    "data.sequence_length=32",
    "data.global_batch=4",
    "optim.warmup_steps=3",
    "optim.max_step=12",
)
LIMITS = ("optim.drop_norm=10", "optim.max_norm=3.2")  # of the trainer's steps alone
_SHAPES = {
    TABLE: (128, 64),
    "decoder/output_norm/scale": (64,),
    f"{LAYER}/feed_forward/linear1_0/weight": (2, 64, 96),
    f"{LAYER}/feed_forward/linear1_1/weight": (2, 64, 96),
    f"{LAYER}/feed_forward/linear2/weight": (2, 96, 64),
    f"{LAYER}/feed_forward/norm/scale": (2, 64),
    f"{LAYER}/self_attention/attention/i_proj/i_proj/qkv_proj/weight": (2, 64, 8, 16),
    f"{LAYER}/self_attention/attention/o_proj/weight": (2, 64, 4, 16),
    f"{LAYER}/self_attention/attention/scale_key/norm/scale": (2, 16),
    f"{LAYER}/self_attention/attention/scale_query/norm/scale": (2, 16),
    f"{LAYER}/self_attention/norm/scale": (2, 64),
}


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Around 0, as wide as 1, float64."""
    return (_hashed(name, shape).astype(np.float64) + 0.5) / 2**32 - 0.5


def _hashed(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """MurmurHash3's finaliser of each place, below 2^32."""
    places = np.arange(np.prod(shape), dtype=np.uint64)
    mixed = (places * 0x9E3779B9 + zlib.crc32(name.encode())) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed = ((mixed ^ (mixed >> np.uint64(shift))) * factor) % 2**32
    return mixed.reshape(shape)


def parameters() -> dict[str, np.ndarray]:
    """By path, float32: weights of variance 1/fan, scales around 1."""
    made = {}
    for path, shape in _SHAPES.items():
        fan = 96 if path.endswith("linear2/weight") else 64
        spread = _uniform(f"1/{path}", shape)
        value = 1 + 0.4 * spread if path.endswith("scale") else spread * np.sqrt(12 / fan)
        made[path] = value.astype(np.float32)
    return made


def batch(kind: str = "plain", step: int = 0) -> dict[str, np.ndarray]:
    """A step's inputs, targets and, of kind "packed", segments, int32 [4, 32].

    masked: of row r the last r + 1 targets are 0, and one is -1. same: one token, one target.
    """
    tokens = (_hashed(f"1/batch{step}", (4, 33)) % 127 + 1).astype(np.int32)
    made = {"inputs": tokens[:, :-1].copy(), "targets": tokens[:, 1:].copy()}
    if kind == "same":
        made["inputs"][:], made["targets"][:] = 7, 9
    if kind == "packed":
        made["segments"] = np.full((4, 32), 2, np.int32)
    for row in range(4):
        if kind == "masked":
            made["targets"][row, -row - 1 :] = 0
            made["targets"][row, 2] = -1
        if kind == "packed":
            made["segments"][row, : 32 // 3 + row] = 1
            made["segments"][row, -row - 1 :] = 0
    return made


def batches() -> dict[str, np.ndarray]:
    """Those of all steps, [10, 4, 32]; that of the dropped one is degenerate."""
    kinds = ["same" if step == DROPPED else "plain" for step in range(STEPS)]
    made = [batch(kind, step) for step, kind in enumerate(kinds)]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def gradients(step: int, kind: str, factor: float | None) -> dict[str, np.ndarray]:
    """Those that the optimizer alone is given: of `figures.optimizer`, by path, float32.

    Every other layer's are five times the rest. Of some kinds one element alone counts.
    """
    alone = {"norm1": 1.0, "norm100": 100.0, "norm99": 99.99, "inf": np.inf, "nan": np.nan}
    made = {}
    for path, shape in _SHAPES.items():
        value = _uniform(f"1g{step}/{path}", shape) * (factor or 0)
        if "/repeat/" in path:
            value[(step + 1) % 2 :: 2] *= 5
        made[path] = value.astype(np.float32)
    if kind in alone:
        made[TABLE][0, 0] = alone[kind]
    return made


def sums(array: np.ndarray) -> tuple[float, float]:
    """Sum and 2-norm in float64, as the figures tell an array."""
    exact = np.asarray(array, np.float64)
    return float(exact.sum()), float(np.sqrt((exact * exact).sum()))
