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
