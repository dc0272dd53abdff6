from typing import Any

import pytest
from refusals import assert_refused

from models.decoder.config import SIZES, ModelConfig


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("embed", 0, "must be at least 1"),
        ("layers", 0, "must be at least 1"),
        ("heads", 0, "must be at least 1"),
        ("kv_heads", 0, "must be at least 1"),
        ("head_dim", 0, "must be at least 1"),
        ("mlp", 0, "must be at least 1"),
        ("vocab", -1, "must be at least 1"),
        ("head_dim", 127, "must be even (RoPE rotates halves)"),
        ("heads", 17, "must be a multiple of kv_heads=16"),
        ("dropout_rate", -0.1, "must lie in [0, 1)"),
        ("dropout_rate", 1.0, "must lie in [0, 1)"),
        ("norm_epsilon", 0.0, "must be positive"),
        ("rope_timescale", 1.0, "must be greater than 1"),
    ],
)
def test_what_no_decoder_can_be_built_from_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(ModelConfig, field, value, allowed)


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    ModelConfig(dropout_rate=0.0, kv_heads=1, heads=3, head_dim=2, layers=1, vocab=1)


def test_the_tiny_size_is_a_decoder_and_the_full_one_is_the_default() -> None:
    tiny = ModelConfig(**SIZES["tiny"])
    assert (tiny.embed, tiny.layers, tiny.heads, tiny.kv_heads) == (64, 2, 4, 4)
    assert (tiny.head_dim, tiny.mlp, tiny.vocab) == (16, 128, 256)
    assert ModelConfig(**SIZES["full"]) == ModelConfig()
