"""The dimensions of the GPT-2, its sizes, and what a step of it multiplies."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from models.shared.settings import require


@dataclass(frozen=True)
class ModelConfig:
    """The defaults are the smallest GPT-2's, with room for the cases' 2048 positions."""

    embed: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    vocab: int = 50257
    positions: int = 2048
    dropout_rate: float = 0.0
    norm_epsilon: float = 1e-5
    dtype: Literal["bfloat16", "float32"] = "float32"

    def __post_init__(self) -> None:
        """Refuses what no model can be built from."""
        for name in ("embed", "layers", "heads", "mlp", "vocab", "positions"):
            require(self, name, getattr(self, name) >= 1, "must be at least 1")
        divides = self.embed % self.heads == 0
        require(self, "heads", divides, f"must divide embed={self.embed}")
        require(self, "dropout_rate", 0 <= self.dropout_rate < 1, "must lie in [0, 1)")


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed": 64, "layers": 2, "heads": 4, "mlp": 128, "vocab": 256, "positions": 128},
    "awkward": {
        "embed": 40,
        "layers": 2,
        "heads": 4,
        "mlp": 72,
        "vocab": 152,
        "positions": 48,
        "data.sequence_length": 24,
    },
}


def evaluated(config: ModelConfig) -> ModelConfig:
    """The config without dropout."""
    return replace(config, dropout_rate=0.0)


# What the parts of the model are called in a compiled program: words of an operation's path.
parts: dict[str, tuple[str, ...]] = {
    "attention": ("attn", "attention"),
    "mlp": ("mlp",),
    "norm": ("ln_1", "ln_2", "ln_f"),
    "dropout": ("dropout",),
    "embedding": ("wte", "wpe"),
    "head": ("wte/attend", "head"),
}


def tflop_per_step(config: ModelConfig, sequence_length: int, batch: int) -> tuple[float, float]:
    """Matrix products of a step in 10^12 operations, and the percentage that is attention's.

    Forward once, backward twice; of attention, the half below the diagonal.
    """
    D, tokens = config.embed, batch * sequence_length
    products = config.layers * (4 * D * D + 2 * D * config.mlp) + D * config.vocab
    attended = config.layers * 2 * D * sequence_length / 2
    total = products + attended
    return 3 * 2 * tokens * total / 1e12, 100 * attended / total
