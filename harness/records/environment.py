"""What a result was made with: versions, devices, flags, and the commit of the code."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import hardware

_CHECKOUT = Path(__file__).resolve().parents[2]

# Key of the record -> name of the distribution that carries the version.
_DISTRIBUTIONS = {
    "jax": "jax",
    "jaxlib": "jaxlib",
    "libtpu": "libtpu",
    "flax": "flax",
    "optax": "optax",
    "orbax": "orbax-checkpoint",
}


def collect(devices: Sequence[Any]) -> dict[str, Any]:
    """Returns `environment` of the record; what cannot be known is None.

    `devices` are the JAX devices of the mesh, over all processes: real ones, those of a topology
    that programs are only compiled for, or none when the run failed before it had any.
    """
    first = devices[0] if devices else None
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **_git_state(_CHECKOUT),
        "python": platform.python_version(),
        **{key: _version(name) for key, name in _DISTRIBUTIONS.items()},
        "platform": first and first.platform,
        "device_kind": first and first.device_kind,
        "device_count": len(devices) or None,
        "process_count": len({device.process_index for device in devices}) or None,
        "topology": _topology(devices),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS"),
        "hostname": socket.gethostname(),
    }


def is_installed(distribution: str) -> bool:
    """Whether a distribution, such as libtpu, is installed."""
    return _version(distribution) is not None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _topology(devices: Sequence[Any]) -> str | None:
    """The slice's name, such as v6e-32; None where the devices are no slice."""
    known = hardware.find(devices[0].device_kind) if devices else None
    if known is None or known.family is None:
        return None
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    one = f"{known.family.name}-{sum(device.num_cores for device in devices) // slices}"
    return one if slices == 1 else f"{slices}x{one}"


def _git_state(checkout: Path) -> dict[str, Any]:
    """Returns git_commit and git_dirty of the checkout.

    Elsewhere, as in a container, what HARNESS_GIT_COMMIT says (with "-dirty" where it was), else
    None for both.
    """
    told, dash, _ = os.environ.get("HARNESS_GIT_COMMIT", "").partition("-dirty")
    unknown = {"git_commit": told or None, "git_dirty": bool(dash) if told else None}
    # An installed package may lie inside somebody else's checkout, whose commit says nothing here.
    if not (checkout / ".git").exists():
        return unknown
    command = ["git", "-C", str(checkout), "status", "--porcelain=v2", "--branch"]
    try:
        status = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return unknown
    lines = status.stdout.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    commit = next((commit for commit in commits if commit != "(initial)"), None)
    return {
        "git_commit": commit,
        "git_dirty": any(not line.startswith("#") for line in lines),
    }
