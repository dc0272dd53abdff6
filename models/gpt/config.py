"""What a pipelined GPT is made of: one frozen dataclass, and its two sizes."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from models.shared.settings import require


@dataclass(frozen=True)
class ModelConfig:
    """The model's dimensions and formats; the defaults are the full size of 913,215,488.

    vocab: rows of the table, those that no token names among them. positions: rows of the table of
    positions, as many as the sequence is long when not given. dtype: of everything between the
    parameters, which are float32, and the logits; in float16 the loss is scaled. initial_spread:
    the standard deviation of fresh weights. remat: whether a layer's backward pass computes all of
    it again.

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 2048
    layers: int = 16
    heads: int = 32
    head_dim: int = 64
    mlp: int = 8192
    vocab: int = 50432
    positions: int | None = None
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-5
    initial_spread: float = 0.006
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    attention: Literal["auto", "splash", "cudnn", "xla"] = "auto"
    remat: Literal["full", "none"] = "full"
    unroll: bool = False  # the layers one by one in the program, not in a loop

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
}
