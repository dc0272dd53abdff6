"""Inputs of tests/data/gpt_figures.json: random numbers of a path's own generator.

The figures are what Megatron-LM's own core computes of them (commit 3983a5e26a, one process, a
CPU); a run in float16 begins at a scale of its own.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FIGURES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "gpt_figures.json").read_text()
)
RUNS: dict[str, Any] = FIGURES["runs"]
LAYERS, WORDS = 8, 96  # the tokens are the first of the table's 128 rows
_SEED = 4
_D, _N, _H, _F, _V, _T = 64, 4, 16, 256, 128, 32
_LAYER = {
    "pre_attention_norm/scale": (_D,),
    "pre_attention_norm/bias": (_D,),
    "self_attention/qkv/kernel": (_D, _N, 3, _H),
    "self_attention/qkv/bias": (_N, 3, _H),
    "self_attention/out/kernel": (_N, _H, _D),
    "self_attention/out/bias": (_D,),
    "pre_mlp_norm/scale": (_D,),
    "pre_mlp_norm/bias": (_D,),
    "mlp/wi/kernel": (_D, _F),
    "mlp/wi/bias": (_F,),
    "mlp/wo/kernel": (_F, _D),
    "mlp/wo/bias": (_D,),
}
_OUTSIDE = {
    "token_embedder/embedding": (_V, _D),
    "position_embedder/embedding": (_T, _D),
    "decoder/final_norm/scale": (_D,),
    "decoder/final_norm/bias": (_D,),
}
SETTINGS = (
    "data.sequence_length=32",
    "data.global_batch=16",
    "data.microbatches=8",
    "model.hidden_dropout=0",
    "model.attention_dropout=0",
    "optim.learning_rate=1e-3",
    "optim.min_learning_rate=1e-4",
    "optim.decay_steps=20",
    "optim.warmup_fraction=0.1",
)
OWN_SETTINGS = {
    "float32": ("model.dtype=float32",),
    "float16": ("model.dtype=float16",),
    "float16, window 4": (
        "model.dtype=float16",
        "optim.initial_loss_scale=65536",
        "optim.loss_scale_window=4",
    ),
}


def _spread(path: str, shape: tuple[int, ...]) -> float:
    """The standard deviation of the array at a path."""
    if path.endswith(("scale", "embedding")):
        return 0.1
    if path.endswith("bias"):
        return 0.02
    fan = math.prod(shape[:2]) if "/out/" in path else shape[0]
    return 1 / math.sqrt(fan) / (math.sqrt(2 * LAYERS) if "/out/" in path or "/wo/" in path else 1)


def parameters() -> dict[str, np.ndarray]:
    """By path, float32, the layers one by one: decoder/layers/0/mlp/wi/kernel."""
    shapes = dict(_OUTSIDE)
    for layer in range(LAYERS):
        shapes |= {f"decoder/layers/{layer}/{name}": shape for name, shape in _LAYER.items()}
    made = {}
    for path, shape in shapes.items():
        generator = np.random.default_rng([_SEED, zlib.crc32(path.encode())])
        normal = generator.standard_normal(shape).astype(np.float32)
        around = np.float32(path.endswith("scale"))
        made[path] = around + np.float32(_spread(path, shape)) * normal
    return made


def stacked() -> dict[str, np.ndarray]:
    """The same, the layers stacked [repeats, stages, ...] in one stage."""
    made = parameters()
    layers = {
        f"decoder/layers/{name}": np.stack(
            [made[f"decoder/layers/{layer}/{name}"] for layer in range(LAYERS)]
        )[:, None]
        for name in _LAYER
    }
    return {path: made[path] for path in _OUTSIDE} | layers


def tokens() -> np.ndarray:
    """Of a whole step, int32 [16, 33]."""
    made = np.random.default_rng([_SEED, 7]).integers(0, WORDS, (16, _T + 1))
    return made.astype(np.int32)
