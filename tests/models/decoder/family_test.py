"""What the decoder says of itself: attention, parts, the matrix products of a step."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from models.decoder import (
    SIZES,
    ModelConfig,
    module,
    parts,
    quantization,
    quantized,
    resolve,
    tflop_per_step,
)
from models.decoder.parameters import Parameter, parameter_table
from models.decoder.sites import Site

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


@pytest.mark.parametrize(
    ("attention", "platform", "expected"),
    [
        ("auto", "tpu", "splash"),
        ("auto", "gpu", "cudnn"),
        ("auto", "cpu", "xla"),
        ("splash", "tpu", "splash"),
        ("cudnn", "gpu", "cudnn"),
        ("xla", "tpu", "xla"),
    ],
)
def test_attention_is_settled_for_a_platform(
    attention: Literal["auto", "splash", "cudnn", "xla"], platform: str, expected: str
) -> None:
    resolved = resolve(replace(FULL, attention=attention, layers=3), platform, 2048)
    assert resolved.attention == expected
    assert replace(resolved, attention=attention) == replace(FULL, attention=attention, layers=3)


@pytest.mark.parametrize(("attention", "needs"), [("splash", "tpu"), ("cudnn", "gpu")])
def test_an_attention_that_a_platform_lacks_is_refused(
    attention: Literal["splash", "cudnn"], needs: str
) -> None:
    with pytest.raises(ValueError, match=f"^attention={attention}: needs a {needs}, this is a cpu"):
        resolve(replace(FULL, attention=attention), "cpu", 2048)


def test_every_matmul_and_every_parameter_belongs_to_a_part() -> None:
    named = [name for names in parts.values() for name in names]
    assert len(named) == len(set(named))
    matmuls = {site.name.lower() for site in Site if site >= Site.QUERY}
    assert matmuls <= set(named)
    assert {"embedding", "scale", "logits_dense"} <= set(named)
    assert set(quantized) == matmuls - {"logits"}
    assert set(quantized) == {*parts["attention"], *parts["mlp"]} - {"rope", "attention"}
    assert list(parts) == ["attention", "mlp", "norm", "dropout", "embedding", "head"]
    assert [parts[name] for name in ("norm", "dropout")] == [("norm", "scale"), ("dropout",)]
    assert parts["embedding"] == ("embedding", "gather", "scatter-add")


def test_the_format_is_the_configs() -> None:
    assert quantization(replace(FULL, quantization="fp8")) == "fp8"


def test_the_nnx_module_holds_the_parameters_of_the_table() -> None:
    tiny = ModelConfig(**SIZES["tiny"])
    made = nnx.eval_shape(lambda: module(tiny))
    shapes = jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(made, nnx.Param)))
    expected = jax.tree.map(
        lambda parameter: parameter.shape,
        parameter_table(tiny),
        is_leaf=lambda leaf: isinstance(leaf, Parameter),
    )
    assert shapes == expected
