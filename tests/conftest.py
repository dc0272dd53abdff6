"""Eight CPU devices for every test, set before JAX is imported; the switch for golden files."""

import os
import signal

os.environ["JAX_PLATFORMS"] = "cpu"
# The tests compile more than they compute: half the time without LLVM's optimisations.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"

import pytest

# What a shell starts in the background ignores SIGINT, and so would the commands the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite configs/golden instead of comparing"
    )
