"""The devices of this process and of all processes: chosen before JAX is there, then checked."""

import glob
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.terminal.errors import UserError

if TYPE_CHECKING:  # what is told of devices can be read without JAX
    import jax

_MOST_CPU_DEVICES = 512
_COORDINATOR_PORT = "8482"  # JAX's own
_JOIN_SECONDS = 300  # for the others to come, as JAX has it


@dataclass(frozen=True)
class Processes:
    """One of several processes that train together, where nothing tells JAX so by itself."""

    coordinator: str  # host:port of process 0
    count: int
    index: int


def add_options(parser: ArgumentParser) -> None:
    """Adds the options that tell several processes of each other."""
    add = parser.add_argument
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens, for several processes"
        " that JAX does not find by itself")  # fmt: skip
    add("--processes", type=int, metavar="N", help="how many processes train together")
    add("--process-id", type=int, metavar="I", help="which of them this is, from 0")


def told(arguments: Namespace) -> Processes | None:
    """What these options say; UserError where they do not fit together."""
    given = (arguments.coordinator, arguments.processes, arguments.process_id)
    if given == (None, None, None):
        return None
    if None in given:
        raise UserError("--coordinator, --processes and --process-id go together")
    if not 0 <= arguments.process_id < arguments.processes:
        raise UserError(
            f"--process-id {arguments.process_id}: must lie in [0, {arguments.processes})"
        )
    return Processes(*given)


def prepare(
    device_count: int | None,
    processes: Processes | None = None,
    fewest: int = 1,
    join_seconds: float = _JOIN_SECONDS,
) -> "list[jax.Device]":
    """Starts JAX on the machine's devices and returns them, those of all processes.

    `device_count` is forced on a CPU (when not given, the `fewest` that will do, or 1 a process)
    and checked elsewhere. Raises UserError when it is not what is there.
    """
    import jax

    from harness.training import joining

    kind = platform()
    if kind == "cpu":
        processes = processes or told_as_on_gke()
        jax.config.update("jax_platforms", "cpu")
        total = cpu_count(device_count, processes, fewest)
        _force_cpu_devices(total // (processes.count if processes else 1))
    _use_compilation_cache()
    if processes is not None:
        if kind == "cpu":
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        joining.join(join_seconds, processes.coordinator, processes.count, processes.index)
    elif kind == "tpu":
        joining.join(join_seconds)  # JAX knows where a slice's hosts are told of each other
    devices = jax.devices()
    if device_count is not None and device_count != len(devices):
        raise UserError(f"--devices {device_count}: there are {len(devices)} {kind} devices")
    return devices


def prepare_cpus(count: int) -> "list[jax.Device]":
    """Starts JAX on so many CPU devices, whatever else the machine has, and returns them."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    _force_cpu_devices(cpu_count(count))
    _use_compilation_cache()
    return jax.devices()


def cache_folder() -> Path:
    """Where compiled programs are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linen-nnx-harness"


def platform() -> str:
    """What JAX will run on: JAX_PLATFORMS if set, else what hardware the machine shows.

    Asking JAX itself costs seconds where a TPU's library is installed and no TPU is there.
    """
    asked = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    if asked:
        return {"cuda": "gpu", "rocm": "gpu"}.get(asked, asked)
    if glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"):
        return "tpu"
    return "gpu" if glob.glob("/dev/nvidia[0-9]*") else "cpu"


def cpu_count(device_count: int | None, processes: Processes | None = None, fewest: int = 1) -> int:
    """How many devices CPUs will be, of all processes; UserError for a number they cannot be."""
    process_count = processes.count if processes else 1
    total = max(fewest, process_count) if device_count is None else device_count
    if not 1 <= total <= _MOST_CPU_DEVICES or total % process_count:
        raise UserError(
            f"--devices {total}: must be 1 to {_MOST_CPU_DEVICES} on a CPU, and a multiple of the"
            f" {process_count} processes"
        )
    return total


def _force_cpu_devices(count: int) -> None:
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # something was computed already, such as a constant of a user's module
        if jax.local_device_count() != count:
            raise UserError(
                f"--devices: JAX has started with {jax.local_device_count()} already, as a"
                f" module computes something when it is imported; set JAX_NUM_CPU_DEVICES={count}"
            ) from None


def _hosts() -> list[str]:
    """On GKE, and so under XPK, every host of a slice is told the names of all."""
    return os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")


def coordinator_port() -> str:
    """Where JAX's coordinator listens, unless an address is given."""
    return os.environ.get("JAX_COORDINATOR_PORT", _COORDINATOR_PORT)


def are_alone(processes: Processes | None) -> bool:
    """Whether it is known, before JAX starts, that no other process trains with this one."""
    return processes is None and platform() != "tpu" and told_as_on_gke() is None


def told_as_on_gke() -> Processes | None:
    """What JAX reads from GKE's variables on a TPU; it would not on the CPUs that stand in."""
    hosts = _hosts()
    if len(hosts) == 1:
        return None
    index = os.environ.get("TPU_WORKER_ID", "")
    if not (index.isdecimal() and int(index) < len(hosts)):
        raise UserError(f"TPU_WORKER_ID={index}: must be the place of this host among {hosts}")
    return Processes(f"{hosts[0]}:{coordinator_port()}", len(hosts), int(index))


def _use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another."""
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
