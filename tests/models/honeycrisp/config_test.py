from typing import Any

import pytest
from refusals import assert_refused

from models.honeycrisp.config import SIZES, ModelConfig


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *((name, 0, "must be at least 1") for name in ("embed", "layers", "heads", "kv_heads")),
        *((name, 0, "must be at least 1") for name in ("head_dim", "mlp")),
        ("vocab", 1, "must be at least 2: token 0 is padding"),
        ("head_dim", 127, "must be even (RoPE rotates pairs)"),
        ("heads", 25, "must be a multiple of kv_heads=8"),
        ("norm_epsilon", 0.0, "must be positive"),
        ("rope_timescale", 1.0, "must be greater than 1"),
        ("z_loss", -1e-9, "must be at least 0"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(ModelConfig, field, value, allowed)


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    ModelConfig(vocab=2, kv_heads=1, heads=3, head_dim=2, layers=1, z_loss=0.0)


def test_every_size_is_a_model() -> None:
    for size in SIZES.values():
        ModelConfig(**{name: value for name, value in size.items() if "." not in name})
