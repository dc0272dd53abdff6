"""What the decoder says of itself: the matrix products of a step."""

from dataclasses import replace

import pytest

from models.decoder import ModelConfig, tflop_per_step

FULL = ModelConfig()


@pytest.mark.parametrize(
    ("sequence_length", "tflop", "attention_percent"), [(128, 0.8009, 0.40), (2048, 13.5871, 6.07)]
)
def test_full_size_flops_equal_the_published_ones(
    sequence_length: int, tflop: float, attention_percent: float
) -> None:
    found, percent = tflop_per_step(FULL, sequence_length, 1)
    assert round(found, 4) == tflop
    assert round(percent, 2) == attention_percent


def test_flops_grow_with_the_batch_and_follow_grouped_keys() -> None:
    one, percent = tflop_per_step(FULL, 2048, 1)
    assert tflop_per_step(FULL, 2048, 4) == (4 * one, percent)
    fewer, _ = tflop_per_step(replace(FULL, kv_heads=4), 2048, 1)
    saved = 3 * 16 * 2 * 2048 * 2048 * (2 * 12) * 128  # keys and values of 12 heads
    assert one - fewer == pytest.approx(saved / 1e12)


def test_flops_of_one_layer_equal_a_count_by_hand() -> None:
    small = replace(FULL, embed=2, layers=1, heads=1, kv_heads=1, head_dim=2, mlp=3, vocab=5)
    forward_per_token = 2 * (3 * 2 * 3 + 4 * 2 * 2 + 2 * 5)
    attention = 4 * 4 * 4 * 2 / 2  # two products of 4 x 4 x 2, their lower half
    expected = 3 * (4 * forward_per_token + attention)
    assert tflop_per_step(small, 4, 1)[0] == pytest.approx(expected / 1e12)
