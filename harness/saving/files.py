"""What lies in a checkpoint folder, read without a model and without trusting any of it."""

import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from harness.records import sealing
from harness.saving import foreign
from harness.saving.digest import Digests
from harness.saving.faults import CheckpointError, Damaged
from harness.saving.folders import METADATA, STATE, is_foreign
from harness.saving.foreign import Place
from harness.terminal.errors import UserError
from harness.terminal.text import one_line, safe, shortlist

# What a failed read can be without the checkpoint being at fault.
_NOT_DAMAGE = ("PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True)
class StoredStep:
    """One committed step: the state after training step `number` (None where nothing tells)."""

    path: Any
    number: int | None
    places: Mapping[str, Place]  # where each array lies, by the path it has in our state
    metadata: dict[str, Any] | None  # None for another program's: there is nothing to check against

    @property
    def digests(self) -> Digests:
        """The digest of each array when it was saved; empty for another program's."""
        return self.metadata["digests"] if self.metadata else {}


@functools.cache
def orbax() -> Any:
    """Orbax, imported when it is first needed: that takes most of a second.

    A failed save is raised, once; what Orbax logs besides, and what it leaves behind of the writes
    that ran beside the failed one, would fill the terminal with pages. It is kept away from there.
    """
    module = importlib.import_module("orbax.checkpoint")
    for name in ("absl", "asyncio"):
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    report = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = report_others
    return module


def read_step(path: Any) -> StoredStep:
    """What a step holds, without its arrays. Raises Damaged, or UserError for no checkpoint."""
    if is_foreign(path):
        number = int(path.name) if path.name.isdecimal() else None
        places = foreign.places(path)
        if not places:
            raise UserError(f"{path}: holds no arrays")
        return StoredStep(path, number, places, None)
    metadata = _read_metadata(path)
    number = metadata["step"]
    if path.name.isdecimal() and int(path.name) != number:
        raise Damaged(f"it is step {number}, renamed")
    places = {name: Place(path / STATE, name.replace("/", ".")) for name in metadata["digests"]}
    return StoredStep(path, number, places, metadata)


def described(step: StoredStep) -> dict[str, jax.ShapeDtypeStruct]:
    """The type and shape of each array: as digested when saved, else as found."""
    if step.metadata is not None:
        return {name: _described_by(digest) for name, digest in step.digests.items()}
    stores = _open(step, step.places)
    return {
        name: jax.ShapeDtypeStruct(store.shape, store.dtype.numpy_dtype)
        for name, store in stores.items()
    }


def read_arrays(step: StoredStep, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Reads arrays by path: onto the devices where `wanted` has a sharding, else as numpy's.

    Raises Damaged, naming the arrays, when that fails for a reason that lies in the files. Goes
    past Orbax's own reader, whose failures leave pages on the terminal and name no array.
    """
    stores = _open(step, wanted)
    readings = _each(
        step,
        {name: functools.partial(_Reading, stores[name], leaf) for name, leaf in wanted.items()},
    )
    return _each(step, {name: reading.array for name, reading in readings.items()})


class _Reading:
    """One array on its way: all that this process needs of it is asked for at once."""

    def __init__(self, store: Any, wanted: jax.ShapeDtypeStruct) -> None:
        self._wanted = wanted
        whole = (slice(None),) * len(wanted.shape)
        sharding = wanted.sharding
        indices = (
            [whole]
            if sharding is None
            else sharding.addressable_devices_indices_map(wanted.shape).values()
        )
        unique = {str(index): index for index in indices}
        self._parts = {key: store[index].read() for key, index in unique.items()}

    def array(self) -> Any:
        """The array, once it is there."""
        wanted = self._wanted
        if wanted.sharding is None:
            (part,) = self._parts.values()
            return part.result()
        return jax.make_array_from_callback(
            wanted.shape, wanted.sharding, lambda index: self._parts[str(index)].result()
        )


def _open(step: StoredStep, names: Iterable[str]) -> dict[str, Any]:
    import tensorstore

    stores = {
        name: tensorstore.open(step.places[name].spec(), open=True, read=True) for name in names
    }
    return _each(step, {name: store.result for name, store in stores.items()})


def _each(step: StoredStep, work: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each array's work gives; Damaged names those whose files fail it."""
    done, failures = {}, {}
    for name, get in work.items():
        try:
            done[name] = get()
        except Exception as error:
            if not _is_damage(error):
                raise CheckpointError(f"{step.path}: cannot be read: {one_line(error)}") from error
            failures[name] = error
    if failures:
        first = next(iter(failures.values()))
        raise Damaged(f"cannot read {shortlist(list(failures))}: {one_line(first)}") from first
    return done


def _read_metadata(path: Any) -> dict[str, Any]:
    try:
        metadata = sealing.opened(sealing.parse((path / METADATA / METADATA).read_text()))
    except FileNotFoundError:
        raise Damaged("incomplete: its metadata is missing") from None
    except (ValueError, RecursionError):
        raise Damaged("its metadata cannot be read") from None
    except sealing.Broken:
        raise Damaged("its metadata has changed since it was saved") from None
    lacking = _lacking(metadata)
    if lacking:
        raise Damaged(f"its metadata does not tell {lacking}")
    return metadata


def _lacking(metadata: Mapping[str, Any]) -> str:
    """What metadata must tell and do not: nothing that is read is relied on as it comes."""
    step, digests, case = (metadata.get(name) for name in ("step", "digests", "case"))
    if type(step) is not int or step < 0:
        return "the step"
    if not isinstance(case, dict):
        return "the case"
    kinds = (("name", str), ("hash", str), ("config", dict))
    wrong = [name for name, kind in kinds if not isinstance(case.get(name), kind)]
    if wrong:
        return f"the case's {wrong[0]}"
    texts = ("impl", "size", "run_id", "recipe", "init", "nnx_state")
    wrong = [name for name in texts if not isinstance(metadata.get(name), str | None)]
    if wrong:
        return f"{wrong[0]} as text"
    if not isinstance(digests, dict) or not digests:
        return "the arrays' digests"
    for name, digest in digests.items():
        try:
            _described_by(digest)
        except (TypeError, ValueError, AttributeError):
            return f"the form of {safe(name)}"
    return ""


def _described_by(digest: str) -> jax.ShapeDtypeStruct:
    """The shape and type that a digest such as `float32[64,2]:0123` begins with."""
    dtype, _, rest = digest.partition("[")
    sizes = rest.partition("]")[0]
    return jax.ShapeDtypeStruct(
        tuple(int(size) for size in sizes.split(",") if size), jnp.dtype(dtype)
    )


def _is_damage(error: Exception) -> bool:
    """Whether the files are at fault, and not access, memory or the network."""
    if isinstance(error, PermissionError | MemoryError | jax.errors.JaxRuntimeError):
        return False
    return not any(status in str(error) for status in _NOT_DAMAGE)
