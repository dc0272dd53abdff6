from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from harness.training import accounting
from models.decoder.config import ModelConfig

FULL = ModelConfig()
BF16_PEAKS = {
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
    "TPU7x": 1153.5,  # half a chip of 2307
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H200": 989.5,
}


@pytest.mark.parametrize(
    ("sequence_length", "tflop", "attention_percent"), [(128, 0.8009, 0.40), (2048, 13.5871, 6.07)]
)
def test_full_size_flops_equal_the_published_ones(sequence_length, tflop, attention_percent):
    flops = accounting.tflop_per_step(FULL, sequence_length, 1)
    assert round(flops.tflop, 4) == tflop
    assert round(flops.attention_percent, 2) == attention_percent


def test_flops_grow_with_the_batch_and_follow_grouped_keys():
    one = accounting.tflop_per_step(FULL, 2048, 1)
    assert accounting.tflop_per_step(FULL, 2048, 4) == (4 * one.tflop, one.attention_percent)
    fewer = accounting.tflop_per_step(replace(FULL, kv_heads=4), 2048, 1)
    saved = 3 * 16 * 2 * 2048 * 2048 * (2 * 12) * 128  # keys and values of 12 heads
    assert one.tflop - fewer.tflop == pytest.approx(saved / 1e12)


def test_flops_of_one_layer_equal_a_count_by_hand():
    small = replace(FULL, embed=2, layers=1, heads=1, kv_heads=1, head_dim=2, mlp=3, vocab=5)
    forward_per_token = 2 * (3 * 2 * 3 + 4 * 2 * 2 + 2 * 5)
    attention = 4 * 4 * 4 * 2 / 2  # two products of 4 x 4 x 2, their lower half
    expected = 3 * (4 * forward_per_token + attention)
    assert accounting.tflop_per_step(small, 4, 1).tflop == pytest.approx(expected / 1e12)


def test_parameters_are_counted_whole_and_per_device():
    mesh = jax.make_mesh((8,), ("fsdp",))
    shapes = {"kernel": jax.ShapeDtypeStruct((16, 4), jnp.float32), "scale": jnp.ones(3)}
    shardings = {
        "kernel": NamedSharding(mesh, PartitionSpec("fsdp")),
        "scale": NamedSharding(mesh, PartitionSpec()),
    }
    assert accounting.parameter_count(shapes) == 16 * 4 + 3
    assert accounting.parameters_per_device(shapes, shardings) == 16 * 4 // 8 + 3


@pytest.mark.parametrize(("kind", "peak"), BF16_PEAKS.items())
def test_mfu_is_the_share_of_the_dense_bf16_peak(kind, peak):
    assert accounting.mfu_percent(peak, kind) == pytest.approx(100)
    assert accounting.mfu_percent(peak / 4, kind) == pytest.approx(25)
    assert accounting.unknown_device_warning(kind) is None


def test_both_names_of_a_tpu_have_the_same_limits():
    for name, other in (("TPU v6 lite", "TPU v6e"), ("TPU v5", "TPU v5p")):
        assert accounting.device_limits(name) == accounting.device_limits(other) is not None


@pytest.mark.parametrize(
    ("kind", "warns"), [("cpu", False), ("TPU v9", True), ("NVIDIA A100-SXM4-80GB MIG 1g", True)]
)
def test_a_device_without_limits_has_no_mfu_and_only_an_accelerator_warns(kind, warns):
    assert accounting.device_limits(kind) is None
    assert accounting.mfu_percent(100.0, kind) is None
    assert accounting.above_peak_warning(1e6, kind) is None
    warning = accounting.unknown_device_warning(kind)
    assert (repr(kind) in warning) if warns else (warning is None)


@pytest.mark.parametrize(
    ("tflops", "kind", "quantization", "warns"),
    [
        (918, "TPU v6 lite", "none", False),
        (2170, "TPU v6 lite", "none", True),
        (1200, "TPU v6 lite", "int8", False),
        (2170, "TPU v6 lite", "int8", True),
        (1200, "TPU v6 lite", "fp8", True),
        (2000, "TPU7x", "fp8", False),
        (1200, "TPU7x", "int8", True),
        (400, "NVIDIA A100-SXM4-80GB", "fp8", True),
        (1200, "NVIDIA H200", "fp8", False),
    ],
)
def test_a_rate_above_the_peak_of_its_precision_is_a_warning(tflops, kind, quantization, warns):
    warning = accounting.above_peak_warning(tflops, kind, quantization)
    assert (warning is not None) == warns
    if warning:
        assert f"{tflops:.1f} TFLOP/s" in warning
        assert kind in warning


def test_compiled_memory_adds_up_and_counts_the_donated_input():
    x = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    step = jax.jit(lambda a, b: (a @ b + 1) @ b, donate_argnums=0)
    memory = accounting.compiled_memory(step.lower(x, x).compile())
    array = 256 * 256 * 4
    assert memory["argument_bytes"] == 2 * array
    assert memory["output_bytes"] == memory["alias_bytes"] == array
    assert memory["temp_bytes"] >= array
    assert memory["total_bytes"] == 2 * array + memory["temp_bytes"]


def test_a_backend_that_tells_nothing_gives_nulls():
    silent = SimpleNamespace(memory_analysis=lambda: None)
    memory = accounting.compiled_memory(silent)
    assert set(memory.values()) == {None}
    assert "total_bytes" in memory


def test_memory_in_use_is_what_the_device_reports():
    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 3, "peak_bytes_in_use": 5})
    assert accounting.memory_in_use(gpu) == (3, 5)
    assert accounting.memory_in_use(jax.devices()[0]) is None


def test_the_full_tree_of_semantics_has_the_published_count():
    embed, layers, mlp, vocab = FULL.embed, FULL.layers, FULL.mlp, FULL.vocab
    heads = FULL.heads * FULL.head_dim
    kernels = 4 * embed * layers * heads + 3 * embed * layers * mlp
    tree = {
        "kernels": jax.ShapeDtypeStruct((kernels,), np.float32),
        "embedding and logits": jax.ShapeDtypeStruct((2, embed, vocab), np.float32),
        "norms": jax.ShapeDtypeStruct((2 * layers + 1, embed), np.float32),
    }
    assert accounting.parameter_count(tree) == 1_104_218_112
