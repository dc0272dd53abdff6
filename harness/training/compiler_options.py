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


# A reduce-scatter is begun on a SparseCore and ended where its result is used. Left to itself,
# libtpu overlaps none: its other options for it change nothing in these programs.
_SCATTERING: dict[str, Options] = {
    "tpu": {
        "xla_sc_disable_megacore_partitioning": True,
        "xla_tpu_enable_reduce_scatter_offload_tracing": True,
        "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter": True,
        "xla_tpu_use_tc_device_shape_on_sc": True,
    }
}


def compiler_options(case: Case, platform: str) -> Options:
    """The options of a case's step, by their names in XLA; {} for an unknown platform."""
    wanted = [_ALWAYS]
    wanted += [_OVERLAPPING] if case.run.overlap_collectives else []
    wanted += [_SCATTERING] if case.run.overlap_scatters else []
    return {name: value for table in wanted for name, value in table.get(platform, {}).items()}
