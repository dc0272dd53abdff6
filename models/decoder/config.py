"""What a decoder is made of: one frozen dataclass, and its two sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from models.shared.settings import Quantization, require


@dataclass(frozen=True)
class ModelConfig:
    """The decoder's dimensions and formats; the defaults are the full size of 1,104,218,112.

    use_fwd_quant: whether the backward products of int8 take the forward's rounded operands (their
    scales then go into the gradient) or round them again along the axes they contract.
    remat: what a layer's backward pass computes again: all, all but the gathered weights, nothing.

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 2048
    layers: int = 16
    heads: int = 16
    kv_heads: int = 16
    head_dim: int = 128
    mlp: int = 7168
    vocab: int = 32000
    dropout_rate: float = 0.0
    norm_epsilon: float = 1e-5
    rope_timescale: float = 10_000.0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    weight_dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Quantization = "none"
    stochastic_rounding: bool = True
    use_fwd_quant: bool = False
    attention: Literal["auto", "splash", "cudnn", "xla"] = "auto"
    remat: Literal["full", "weights", "none"] = "full"
    unroll: bool = False  # the layers one by one in the program, not in a loop

    def __post_init__(self) -> None:
        """Refuses what no decoder can be built from."""
        for name in ("embed", "layers", "heads", "kv_heads", "head_dim", "mlp", "vocab"):
            require(self, name, getattr(self, name) >= 1, "must be at least 1")
        require(self, "head_dim", self.head_dim % 2 == 0, "must be even (RoPE rotates halves)")
        require(
            self,
            "heads",
            self.heads % self.kv_heads == 0,
            f"must be a multiple of kv_heads={self.kv_heads}",
        )
        require(self, "dropout_rate", 0 <= self.dropout_rate < 1, "must lie in [0, 1)")
        require(self, "norm_epsilon", self.norm_epsilon > 0, "must be positive")
        require(self, "rope_timescale", self.rope_timescale > 1, "must be greater than 1")


SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "tiny": {
        "embed": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 4,
        "head_dim": 16,
        "mlp": 128,
        "vocab": 256,
    },
}
