"""Examines this machine, or all hosts of a slice: what is found, and what mends what is wrong."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from harness.records import environment, finding, storage
from harness.records.run_folder import check_writable
from harness.terminal import installing
from harness.terminal.errors import UserError
from harness.terminal.text import counted, gib, one_line, safe, shortlist
from harness.training import devices, joining, session
from harness.training.devices import Processes
from harness.training.options import Options

_JOIN_SECONDS = 60
_PLUGINS = {  # the distribution that JAX needs for a platform, and the extra that installs it
    "tpu": ("libtpu", "tpu"),
    "gpu": ("jax-cuda12-plugin", "cuda"),
}
_CASE = "01_baseline"
_STEPS = 6


class _Fault(Exception):
    """Something is wrong; the message says what mends it."""


def examine(processes: Processes | None, results: Any) -> int:
    """Examines one thing after the other, each told in a line; 0 where all is well, else 1."""
    well = [
        _examined("versions", _versions),
        _examined("results", lambda: _writable(results)),
        _examined("cache", lambda: _writable(devices.cache_folder())),
    ]
    started = _examined("devices", lambda: _devices(processes))
    well.append(started)
    if started:  # without devices nothing else can be tried
        well += [_examined("memory", _memory), _examined("collective", _collective)]
        shared = _examined("shared", lambda: _shared(results))
        usable = shared and (well[1] or jax.process_count() > 1)  # the same on every host
        well += [shared, _examined("a run", lambda: _run(processes, results, usable))]
    return 0 if all(well) else 1


def _examined(what: str, find: Callable[[], str]) -> bool:
    """Prints what was found, or what is wrong; returns whether all is well.

    A terminal is told meanwhile what is being tried.
    """
    if sys.stdout.isatty():
        print(f"{'...':5}  {what:10}", end="\r", flush=True)
    try:
        found, is_well = find(), True
    except (_Fault, UserError) as error:
        found, is_well = str(error), False
    except Exception as error:
        found, is_well = one_line(error), False
    print(f"{'ok' if is_well else 'FAULT':5}  {what:10}  {safe(found, 500)}", flush=True)
    return is_well


def _versions() -> str:
    found = environment.collect(())
    names = ("python", "jax", "jaxlib", "libtpu", "flax", "optax", "orbax")
    return ", ".join(f"{name} {found[name] or 'none'}" for name in names)


def _writable(place: Any) -> str:
    check_writable(place)
    with storage.errors_told(place):
        made = [] if storage.is_remote(place) or place.exists() else [place]
        place.mkdir(parents=True, exist_ok=True)
        token = place / f".doctor-{os.getpid()}"
        token.write_text("")
        token.unlink()
        for folder in made:
            folder.rmdir()
    return f"{place} can be written to"


def _devices(processes: Processes | None) -> str:
    platform = devices.platform()
    plugin, extra = _PLUGINS.get(platform, (None, ""))
    mend = installing.command(extra) if extra else ""
    if plugin is not None and not environment.is_installed(plugin):
        raise _Fault(f"this machine has a {platform}, and {plugin} is not installed: {mend}")
    found = devices.prepare(None, processes, join_seconds=_JOIN_SECONDS)
    if found[0].platform != platform:
        raise _Fault(f"this machine has a {platform}, and JAX runs on {found[0].platform}: {mend}")
    hosts = joining.hosts()
    return f"{len(found)} x {found[0].device_kind}, of {_told(hosts)}"


def _told(hosts: list[str]) -> str:
    return f"{counted(len(hosts), 'host')} that answered: {shortlist(hosts, 8)}"


def _memory() -> str:
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if not all("bytes_limit" in one for one in stats):
        return f"{gib(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} GiB of this host"
    return f"{gib(min(one['bytes_limit'] for one in stats))} GiB on each device"


def _collective() -> str:
    """Sums over all devices what each has of its own."""
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec("all"))
    count = jax.device_count()
    numbers = jax.make_array_from_callback(
        (count,), everywhere, lambda index: np.arange(count, dtype=np.int32)[index]
    )
    total = int(jax.jit(lambda array: array.sum())(numbers))
    if total != count * (count - 1) // 2:
        raise _Fault(f"the sum over {count} devices came out as {total}: a link or chip is faulty")
    return f"the sum over {counted(count, 'device')} is right"


def _shared(results: Any) -> str:
    joining.require_shared(results)
    return f"{results} is one place for {counted(jax.process_count(), 'host')}"


def _run(processes: Processes | None, results: Any, has_results: bool) -> str:
    """Trains a tiny case, with a save where results can be kept."""
    place: Any = results / "doctor" if has_results else Path(tempfile.mkdtemp())
    options = Options(
        case=_CASE,
        size="tiny",
        recipe="reference",
        overrides=(f"run.steps={_STEPS}", f"checkpoint.enabled={str(has_results).lower()}"),
        devices=None,
        processes=processes,
        results=place,
        init="shared",
        restore=None,
        profile=range(0),
        tensorboard=False,
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            code = session.run(options, "nnx", None)
        if code:
            raise _Fault(next((line for line in said.getvalue().splitlines() if "error" in line),
                              f"ended with {code}"))  # fmt: skip
        if jax.process_index() > 0:
            return "done"
        (found,), _ = finding.load_all([place])
        seconds = found.record["timing"]["step_seconds"]["median"]
        saves = len(found.record["checkpoint"]["saves"])
        return f"{_CASE}, tiny: {seconds:.6f} s a step, {counted(saves, 'save')}"
    finally:
        if storage.is_remote(place):
            if jax.process_index() == 0:
                place.rmtree()
        elif jax.process_index() == 0 or not has_results:
            shutil.rmtree(place, ignore_errors=True)
