from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from harness.training import accounting
from models.decoder.config import ModelConfig

FULL = ModelConfig()


def test_parameters_are_counted_whole_and_per_device() -> None:
    mesh = jax.make_mesh((8,), ("fsdp",))
    shapes = {"kernel": jax.ShapeDtypeStruct((16, 4), jnp.float32), "scale": jnp.ones(3)}
    shardings = {
        "kernel": NamedSharding(mesh, PartitionSpec("fsdp")),
        "scale": NamedSharding(mesh, PartitionSpec()),
    }
    assert accounting.parameter_count(shapes) == 16 * 4 + 3
    assert accounting.parameters_per_device(shapes, shardings) == 16 * 4 // 8 + 3


def test_compiled_memory_adds_up_and_counts_the_donated_input() -> None:
    x = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    step = jax.jit(lambda a, b: (a @ b + 1) @ b, donate_argnums=0)
    memory = accounting.compiled_memory(step.lower(x, x).compile())
    array = 256 * 256 * 4
    assert memory["argument_bytes"] == 2 * array
    assert memory["output_bytes"] == memory["alias_bytes"] == array
    temporary = memory["temp_bytes"]
    assert temporary is not None
    assert temporary >= array
    assert memory["total_bytes"] == 2 * array + temporary


def test_a_backend_that_tells_nothing_gives_nulls() -> None:
    silent = SimpleNamespace(memory_analysis=lambda: None)
    memory = accounting.compiled_memory(silent)
    assert set(memory.values()) == {None}
    assert "total_bytes" in memory


def test_memory_in_use_is_what_the_device_reports() -> None:
    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 3, "peak_bytes_in_use": 5})
    assert accounting.memory_in_use(gpu) == (3, 5)
    assert accounting.memory_in_use(jax.devices()[0]) is None


def test_the_full_tree_of_semantics_has_the_published_count() -> None:
    embed, layers, mlp, vocab = FULL.embed, FULL.layers, FULL.mlp, FULL.vocab
    heads = FULL.heads * FULL.head_dim
    kernels = 4 * embed * layers * heads + 3 * embed * layers * mlp
    tree = {
        "kernels": jax.ShapeDtypeStruct((kernels,), np.float32),
        "embedding and logits": jax.ShapeDtypeStruct((2, embed, vocab), np.float32),
        "norms": jax.ShapeDtypeStruct((2 * layers + 1, embed), np.float32),
    }
    assert accounting.parameter_count(tree) == 1_104_218_112


def memory(argument: int, total: int, code: int = 1) -> dict[str, int | None]:
    return {"argument_bytes": argument, "total_bytes": total, "generated_code_bytes": code}


def test_two_states_need_both_arguments_and_what_the_larger_step_takes_beside_its_own() -> None:
    assert accounting.both_bytes(memory(10, 15), memory(20, 22)) == 10 + 20 + 5 + 2
    assert accounting.both_bytes(memory(10, 15), memory(20, 22) | {"total_bytes": None}) is None
