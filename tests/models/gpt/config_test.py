from typing import Any

import pytest
from refusals import assert_refused

from models.gpt.config import SIZES, ModelConfig


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *((name, 0, "must be at least 1") for name in ("embed", "layers", "heads", "head_dim")),
        *((name, 0, "must be at least 1") for name in ("mlp", "vocab", "positions")),
        ("hidden_dropout", -0.1, "must lie in [0, 1)"),
        ("hidden_dropout", 1.0, "must lie in [0, 1)"),
        ("attention_dropout", -0.1, "must lie in [0, 1)"),
        ("attention_dropout", 1.0, "must lie in [0, 1)"),
        ("norm_epsilon", 0.0, "must be positive"),
        ("initial_spread", 0.0, "must be positive"),
        ("attention", "cudnn", "a kernel drops nothing: needs attention_dropout=0"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(ModelConfig, field, value, allowed)


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    ModelConfig(positions=1, hidden_dropout=0.0, attention_dropout=0.0, attention="splash")


def test_every_size_is_a_model() -> None:
    for size in SIZES.values():
        ModelConfig(**{name: value for name, value in size.items() if "." not in name})
