"""A step compiled for a TPU slice, or found in the user's cache where it was compiled before."""

import contextlib
import gzip
import hashlib
import importlib.metadata
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax

from harness import hlo
from harness.records import atomic
from harness.slices.topology import Slice
from harness.training import train_step
from harness.training.compiler_options import Options
from harness.training.devices import cache_folder
from harness.training.train_step import Trainer

_VERSIONS = ("jax", "jaxlib", "libtpu")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_ERROR = "does_not_fit"  # the key of an outcome without a program


class DoesNotFit(Exception):
    """The compiler found no way to place the program in the device's memory; says what it used."""


@dataclass(frozen=True)
class CompiledStep:
    """What is kept of a compiled step: its text, and memory as jax.stages.Compiled tells it.

    memory: the figures of memory_analysis(). compile_seconds: of the compilation, whenever it was.
    """

    text: str
    memory: dict[str, int]
    compile_seconds: float

    def memory_analysis(self) -> SimpleNamespace:
        """What one device needs, in bytes."""
        return SimpleNamespace(**self.memory)


def key(stablehlo_sha256: str, options: Options, on: Slice) -> str:
    """What the outcome of a compilation depends on, as sha256."""
    depends = {
        "stablehlo": stablehlo_sha256,
        "topology": f"{on.name} {on.shape_text}",
        "options": options,
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "flags": {name: os.environ.get(name) for name in _FLAGS},
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def find(stablehlo_sha256: str, options: Options, on: Slice) -> CompiledStep | None:
    """The cached outcome of compiling this program; None where no readable one is kept.

    Raises DoesNotFit when that was the outcome.
    """
    try:
        with gzip.open(_path(stablehlo_sha256, options, on), "rt", encoding="utf-8") as file:
            kept = json.load(file)
        if kept.keys() == {_ERROR}:
            raise DoesNotFit(kept[_ERROR])
        return CompiledStep(**kept)
    except (OSError, EOFError, ValueError, TypeError, AttributeError):
        return None


def compile_step(
    lowered: jax.stages.Lowered, trainer: Trainer, stablehlo_sha256: str, on: Slice
) -> CompiledStep:
    """Compiles as a run does, and caches the outcome under the hash. Raises DoesNotFit."""
    before = time.perf_counter()
    path = _path(stablehlo_sha256, trainer.compiler_options, on)
    try:
        compiled = train_step.compile_step(lowered, trainer)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        told = _first_sentences(str(error))
        _keep({_ERROR: told}, path)
        raise DoesNotFit(told) from None
    seconds = time.perf_counter() - before
    analysis = compiled.memory_analysis()
    memory = {
        name: int(getattr(analysis, name)) for name in dir(analysis) if name.endswith("_in_bytes")
    }
    outcome = CompiledStep(hlo.text(compiled), memory, seconds)
    _keep(asdict(outcome), path)
    return outcome


def _path(stablehlo_sha256: str, options: Options, on: Slice) -> Path:
    return cache_folder() / "preflight" / f"{key(stablehlo_sha256, options, on)}.json.gz"


def _keep(outcome: dict[str, Any], path: Path) -> None:
    """Writes the outcome whole or not at all; a cache that cannot be written is left alone."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, gzip.compress(json.dumps(outcome).encode()))


def _first_sentences(message: str) -> str:
    """What the compiler says before it lists the program's buffers, in one line."""
    told = message.partition("\n\n")[0]
    return " ".join(told.split()).removeprefix("RESOURCE_EXHAUSTED: ")
