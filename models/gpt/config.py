"""What a pipelined GPT is made of: one frozen dataclass, its sizes, and where it is cut."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from models.cut import Cut
from models.shared.settings import require

CUT = Cut(
    layers=("decoder", "layers"),
    norm=("decoder", "final_norm"),
    table=("token_embedder", "embedding"),
)


@dataclass(frozen=True)
class ModelConfig:
    """The model's dimensions and formats; the defaults are the full size of 913,215,488.

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 2048
    """Width of what passes from layer to layer."""
    layers: int = 16
    """How many layers there are."""
    heads: int = 32
    """Attention heads of the queries."""
    head_dim: int = 64
    """Width of an attention head."""
    mlp: int = 8192
    """Hidden width of the feed-forward block."""
    vocab: int = 50432
    """Rows of the table of tokens, also those that no token names."""
    positions: int | None = None
    """Rows of the table of positions; null: as many as data.sequence_length."""
    hidden_dropout: float = 0.1
    """Share of activations that dropout sets to 0."""
    attention_dropout: float = 0.1
    """Share of attention weights that dropout sets to 0."""
    norm_epsilon: float = 1e-5
    """What is added to the variance before a norm divides by its root."""
    initial_spread: float = 0.006
    """Standard deviation of fresh weights."""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of everything between the float32 parameters and the logits."""
    attention: Literal["auto", "splash", "cudnn", "xla"] = "auto"
    """How attention is computed; auto: by the fastest kernel for device and shapes."""
    remat: Literal["full", "none"] = "full"
    """What the backward pass of a layer computes again: all of it, or nothing."""
    unroll: bool = False
    """Whether the layers stand one by one in the program instead of in a loop."""

    def __post_init__(self) -> None:
        """Refuses what no model can be built from."""
        for name in ("embed", "layers", "heads", "head_dim", "mlp", "vocab"):
            require(self, name, getattr(self, name) >= 1, "must be at least 1")
        some = self.positions is None or self.positions >= 1
        require(self, "positions", some, "must be at least 1")
        for name in ("hidden_dropout", "attention_dropout"):
            require(self, name, 0 <= getattr(self, name) < 1, "must lie in [0, 1)")
        for name in ("norm_epsilon", "initial_spread"):
            require(self, name, getattr(self, name) > 0, "must be positive")
        whole = self.attention in ("auto", "xla") or self.attention_dropout == 0
        require(self, "attention", whole, "a kernel drops nothing: needs attention_dropout=0")

    @property
    def places(self) -> int:
        """Rows of the table of positions; ValueError while they are not settled."""
        if self.positions is None:
            raise ValueError("positions=None: not known without the sequence length")
        return self.positions

    @property
    def last_spread(self) -> float:
        """The standard deviation of a fresh matrix that ends a branch."""
        return self.initial_spread / math.sqrt(2 * self.layers)

    @property
    def kv_heads(self) -> int:
        """Every head has a key and a value of its own."""
        return self.heads


SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "tiny": {
        "embed": 64,
        "layers": 8,
        "heads": 4,
        "head_dim": 16,
        "mlp": 256,
        "vocab": 128,
    },
    "awkward": {
        "embed": 40,
        "layers": 8,
        "heads": 4,
        "head_dim": 10,
        "mlp": 72,
        "vocab": 152,
        "data.sequence_length": 24,
    },
}
