"""One host of a TPU slice, as JAX finds it told there; CPU devices stand in for its chips.

To be run with JAX_FORCE_TPU_INIT, which has JAX look for the others as on a TPU.
"""

import os
import sys

import jax

from harness import run
from harness.terminal.errors import UserError
from harness.training import devices

if "GCE_METADATA_IP" in os.environ:
    del os.environ["TPU_SKIP_MDS_QUERY"]  # which JAX sets where it sees no chip
devices.platform = lambda: "tpu"
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_collectives_implementation", "gloo")

try:
    sys.exit(run.main(sys.argv[1:]))
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
