"""Eight CPU devices for every test, set before JAX is imported; the switch for golden files."""

import functools
import os
import signal
import tempfile
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
# The tests compile more than they compute: half the time without LLVM's optimisations.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
# One cache for the commands that all workers of a session start: what one compiled, the next ones
# load. Workers have the first process's environment.
if "HARNESS_TESTS_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="harness-tests-", ignore_cleanup_errors=True)
    os.environ["HARNESS_TESTS_CACHE"] = _cache.name
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"

import flax.linen
import flax.nnx
import jax
import optax
import pytest


def _may_promote(owner: Any, name: str) -> None:
    """Lets one function mix dtypes and ranks, and none that calls it."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def lenient(*arguments: Any, **options: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*arguments, **options)

    # No line of a model: what is computed here is told of its caller.
    made: Any = lenient
    made.__code__ = made.__code__.replace(co_filename="<lenient>")
    setattr(owner, name, lenient)


# Nothing becomes wider by the way: what is computed in another format says so where it is written.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
_may_promote(jax.nn, "dot_product_attention")
_may_promote(jax.lax.DotAlgorithmPreset, "supported_output_types")
_may_promote(optax.tree, "bias_correction")
_may_promote(flax.linen.LayerNorm, "__call__")
_may_promote(flax.nnx.LayerNorm, "__call__")

# What a shell starts in the background ignores SIGINT, and so would the commands the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite configs/golden instead of comparing"
    )
