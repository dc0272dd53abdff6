"""What a Honeycrisp is made of: one frozen dataclass, and its two sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from models.shared.settings import require


@dataclass(frozen=True)
class ModelConfig:
    """The model's dimensions and formats; the defaults are the full size of 2,737,739,264.

    dtype: of everything between the parameters, which are float32, and the loss.
    z_loss: the factor of the squared normaliser of the logits in the loss.
    remat: what a layer's backward pass need not compute again: nothing (full), the results of the
    attention's projections, of all matrix products (dots), everything (none).

    Raises ValueError with one line, "FIELD=VALUE: what is allowed", for an unmet constraint.
    """

    embed: int = 3072
    layers: int = 26
    heads: int = 24
    kv_heads: int = 8
    head_dim: int = 128
    mlp: int = 8064
    vocab: int = 49152
    norm_epsilon: float = 1e-5
    rope_timescale: float = 500_000.0
    z_loss: float = 1e-6
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    attention: Literal["auto", "splash", "cudnn", "xla"] = "xla"
    remat: Literal["full", "projections", "dots", "none"] = "projections"
    unroll: bool = False  # the layers one by one in the program, not in a loop

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
}
