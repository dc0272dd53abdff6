from dataclasses import dataclass

import pytest

from models.shared.settings import attention_for, is_pattern, require


@dataclass
class Some:
    size: int = 3
    async_: bool = False


def test_what_does_not_hold_is_one_line_with_field_and_value() -> None:
    require(Some(), "size", True, "never said")
    with pytest.raises(ValueError, match=r"^size=3: must be even$"):
        require(Some(), "size", False, "must be even")
    with pytest.raises(ValueError, match=r"^async=False: must be true$"):
        require(Some(), "async_", False, "must be true")


@pytest.mark.parametrize(
    ("platform", "sequence_length", "head_dim", "expected"),
    [
        ("tpu", 2048, 128, "splash"),
        ("tpu", 128, 128, "splash"),
        ("tpu", 64, 16, "xla"),
        ("gpu", 2048, 128, "cudnn"),
        ("tpu", 128, 64, "splash"),
        ("tpu", 128, 32, "xla"),
        ("tpu", 130, 128, "xla"),
        ("gpu", 64, 64, "cudnn"),
        ("gpu", 64, 16, "xla"),
        ("gpu", 65, 64, "xla"),
        ("cpu", 2048, 128, "xla"),
    ],
)
def test_auto_attention(platform: str, sequence_length: int, head_dim: int, expected: str) -> None:
    assert attention_for(platform, sequence_length, head_dim) == expected


@pytest.mark.parametrize(("text", "holds"), [("tpu-v6e-(8|32)", True), ("tpu-v6e-(8", False)])
def test_a_pattern_is_a_regular_expression(text: str, holds: bool) -> None:
    assert is_pattern(text) is holds
