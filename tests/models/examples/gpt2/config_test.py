from typing import Any

import pytest
from refusals import assert_refused

from models.examples.gpt2.config import SIZES, ModelConfig, evaluated, parts, tflop_per_step


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *((name, 0, "must be at least 1") for name in ("embed", "layers", "heads", "mlp")),
        ("vocab", 0, "must be at least 1"),
        ("positions", 0, "must be at least 1"),
        ("heads", 7, "must divide embed=768"),
        ("dropout_rate", -0.1, "must lie in [0, 1)"),
        ("dropout_rate", 1.0, "must lie in [0, 1)"),
    ],
)
def test_what_no_model_can_be_built_from_is_refused(field: str, value: Any, allowed: str) -> None:
    assert_refused(ModelConfig, field, value, allowed)


def test_the_tiny_size_has_the_vocabulary_of_the_tiny_decoder() -> None:
    tiny = ModelConfig(**SIZES["tiny"])
    assert (tiny.embed, tiny.layers, tiny.heads) == (64, 2, 4)
    assert (tiny.mlp, tiny.vocab, tiny.positions) == (128, 256, 128)


def test_every_small_size_names_what_makes_a_model_small() -> None:
    assert SIZES["awkward"].keys() == SIZES["tiny"].keys() | {"data.sequence_length"}
    awkward = {name: size for name, size in SIZES["awkward"].items() if "." not in name}
    assert ModelConfig(**awkward).vocab == 152


def test_an_evaluation_drops_nothing() -> None:
    assert evaluated(ModelConfig(dropout_rate=0.5)) == ModelConfig()


def test_the_matrix_products_of_a_step_are_those_counted_by_hand() -> None:
    model = ModelConfig(embed=2, layers=3, heads=1, mlp=5, vocab=7)
    batch, T = 2, 4
    weights = batch * T * (3 * (2 * 6 + 2 * 2 + 2 * (2 * 5)) + 2 * 7)
    attention = batch * 3 * 2 * (T * T * 2) / 2  # scores and values, their lower half
    tflop, percent = tflop_per_step(model, T, batch)
    assert tflop == pytest.approx(3 * 2 * (weights + attention) / 1e12)
    assert percent == pytest.approx(100 * attention / (weights + attention))


def test_every_module_belongs_to_a_part() -> None:
    assert parts == {
        "attention": ("attn", "attention"),
        "mlp": ("mlp",),
        "norm": ("ln_1", "ln_2", "ln_f"),
        "dropout": ("dropout",),
        "embedding": ("wte", "wpe"),
        "head": ("wte/attend", "head"),
    }
