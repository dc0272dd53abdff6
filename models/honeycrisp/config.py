"""What a Honeycrisp is made of: one frozen dataclass, and its two sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from models.shared.settings import require


@dataclass(frozen=True)
class ModelConfig:
    """The model's dimensions and formats; the defaults are the full size of 2,737,739,264.

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 3072
    """Width of what passes from layer to layer."""
    layers: int = 26
    """How many layers there are."""
    heads: int = 24
    """Attention heads of the queries."""
    kv_heads: int = 8
    """Attention heads of keys and values; each serves heads / kv_heads query heads."""
    head_dim: int = 128
    """Width of an attention head."""
    mlp: int = 8064
    """Hidden width of the feed-forward block."""
    vocab: int = 49152
    """Tokens that there are."""
    norm_epsilon: float = 1e-5
    """What is added to the mean square before a norm divides by its root."""
    rope_timescale: float = 500_000.0
    """The longest wavelength of rotary positions, in units of 2 pi tokens."""
    z_loss: float = 1e-6
    """Factor of the squared log of the softmax's normaliser, which is added to the loss."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type of everything between the float32 parameters and the loss."""
    attention: Literal["auto", "splash", "cudnn", "xla"] = "xla"
    """How attention is computed; auto: by the fastest kernel for device and shapes."""
    remat: Literal["full", "projections", "dots", "none"] = "projections"
    """What the backward pass of a layer computes again: all of it (full), all but attention's
    projections, all but matrix products (dots), or nothing (none)."""
    unroll: bool = False
    """Whether the layers stand one by one in the program instead of in a loop."""

    def __post_init__(self) -> None:
        """Refuses what no model can be built from."""
        for name in ("embed", "layers", "heads", "kv_heads", "head_dim", "mlp"):
            require(self, name, getattr(self, name) >= 1, "must be at least 1")
        require(self, "vocab", self.vocab >= 2, "must be at least 2: token 0 is padding")
        require(self, "head_dim", self.head_dim % 2 == 0, "must be even (RoPE rotates pairs)")
        require(
            self,
            "heads",
            self.heads % self.kv_heads == 0,
            f"must be a multiple of kv_heads={self.kv_heads}",
        )
        require(self, "norm_epsilon", self.norm_epsilon > 0, "must be positive")
        require(self, "rope_timescale", self.rope_timescale > 1, "must be greater than 1")
        require(self, "z_loss", self.z_loss >= 0, "must be at least 0")


SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "tiny": {
        "embed": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "mlp": 96,
        "vocab": 128,
        "data.global_batch": None,  # one sequence per device
    },
    "awkward": {
        "embed": 40,
        "layers": 2,
        "heads": 6,
        "kv_heads": 3,
        "head_dim": 10,
        "mlp": 72,
        "vocab": 152,
        "data.global_batch": None,
        "data.sequence_length": 24,
    },
}
