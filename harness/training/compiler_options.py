"""What the compiler is told beyond its defaults."""

import jax

from harness.cases.settings import Case

Options = dict[str, str | bool]

# On TPU the weights are gathered before their matmul, not in a loop of permutes around pieces of
# it: fewer cycles at these sizes. On a CPU the same step compiles in half the time and runs as
# fast; JAX 0.11 and later need no second word.
_ALWAYS: dict[str, Options] = {
    "cpu": {"xla_backend_optimization_level": "1"}
    | ({"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}),
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}

# An all-gather is spread over fusions that compute meanwhile, and begun ahead of its matmul.
_OVERLAPPING: dict[str, Options] = {
    "tpu": {
        "xla_enable_async_all_gather": True,
        "xla_tpu_enable_async_collective_fusion": True,
        "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True,
        "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
        "xla_tpu_overlap_compute_collective_tc": True,
    }
}


# Gathers and scatters are begun on a SparseCore and ended where their result is used, over rings
# both ways around. By its own estimate of their latency the scheduler begins them too late: four
# sequences of 01_baseline on v6e-32 take a predicted 0.1238 s by it, and 0.1212 s by one four times
# as long.
_OFFLOADING: dict[str, Options] = {
    "tpu": {
        "xla_sc_disable_megacore_partitioning": True,
        "xla_tpu_enable_all_gather_offload_tracing": True,
        "xla_tpu_enable_reduce_scatter_offload_tracing": True,
        "xla_tpu_enable_sparse_core_collective_offload_2d_all_gather": True,
        "xla_tpu_enable_sparse_core_collective_offload_all_gather": True,
        "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter": True,
        "xla_tpu_sparse_core_all_gather_latency_multiplier": "4",
        "xla_tpu_sparse_core_reduce_scatter_latency_multiplier": "4",
        "xla_tpu_use_tc_device_shape_on_sc": True,
    }
}


def compiler_options(case: Case, platform: str) -> Options:
    """The options of a case's step, by their names in XLA; {} for an unknown platform."""
    wanted = [_ALWAYS]
    if case.run.offload_collectives:  # what a SparseCore moves is not spread over fusions
        wanted += [_OFFLOADING]
    elif case.run.overlap_collectives:
        wanted += [_OVERLAPPING]
    return {name: value for table in wanted for name, value in table.get(platform, {}).items()}
