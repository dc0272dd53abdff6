"""What a decoder is made of: one frozen dataclass, and its two sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from models.shared.settings import Quantization, require


@dataclass(frozen=True)
class ModelConfig:
    """The decoder's dimensions and formats; the defaults are the full size of 1,104,218,112.

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 2048
    """Width of what passes from layer to layer."""
    layers: int = 16
    """How many layers there are."""
    heads: int = 16
    """Attention heads of the queries."""
    kv_heads: int = 16
    """Attention heads of keys and values; each serves heads / kv_heads query heads."""
    head_dim: int = 128
    """Width of an attention head."""
    mlp: int = 7168
    """Hidden width of the feed-forward block."""
    vocab: int = 32000
    """Tokens that there are."""
    dropout_rate: float = 0.0
    """Share of activations that dropout sets to 0, at four sites of a layer."""
    norm_epsilon: float = 1e-5
    """What is added to the mean square before a norm divides by its root."""
    rope_timescale: float = 10_000.0
    """The longest wavelength of rotary positions, in units of 2 pi tokens."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type that is computed in."""
    weight_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that parameters are kept in."""
    quantization: Quantization = "none"
    """Format of the matrix products, forward and backward."""
    stochastic_rounding: bool = True
    """Whether gradients are rounded at random on their way to int8."""
    use_fwd_quant: bool = False
    """Whether int8's backward products take the operands that the forward pass rounded, whose
    scales then enter the gradient. Otherwise each product rounds its own, along the axes that it
    contracts."""
    attention: Literal["auto", "splash", "cudnn", "xla"] = "auto"
    """How attention is computed; auto: by the fastest kernel for device and shapes."""
    remat: Literal["full", "weights", "none"] = "full"
    """What the backward pass of a layer computes again: all of it (full), all but the gathered
    weights, or nothing (none)."""
    unroll: bool = False
    """Whether the layers stand one by one in the program instead of in a loop."""

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
    "awkward": {
        "embed": 40,
        "layers": 2,
        "heads": 3,
        "kv_heads": 3,
        "head_dim": 10,
        "mlp": 72,
        "vocab": 152,
        "data.sequence_length": 24,
    },
}
