"""The seam: what a pair of models offers to be trained, and how a pair from elsewhere is loaded.

A pair is a module. `models` itself is one; `--twins package.module` names another. It has

* `ModelConfig`, a frozen dataclass with defaults for everything, among it `vocab`: the keys of
  `--set model.*`;
* two implementations, each a submodule or an attribute that has the functions of `Implementation`.
  They are called "linen" and "nnx", or as `IMPLEMENTATIONS` lists them; the first one's initial
  parameters are shared.

It may have `SIZES`, which settings make its "tiny", and `tflop_per_step(config, sequence_length,
batch)`, the matrix products of a step in 10^12 operations and attention's percentage of them.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import jax

Params = Mapping[str, Any]  # nested by path; the leaves are arrays, or whatever is said of them

_FUNCTIONS = {
    "init": ("config", "key"),
    "apply": ("config", "params", "tokens", "key"),
    "logical_axes": ("config",),
}


class Implementation(Protocol):
    """What is trained: pure functions of plain trees.

    All implementations of one model hold the same tree of parameters. No random state lives in it:
    everything random is a function of the key that `apply` is given.

    One may also have `optimizer(settings, learning_rate)`, of the case's `optim` section and its
    schedule: the optax transformation to train with, instead of AdamW that decays every parameter.
    """

    def init(self, config: Any, key: jax.Array) -> Params:
        """Fresh parameters: a nested dict of arrays."""
        ...

    def apply(self, config: Any, params: Params, tokens: jax.Array, key: jax.Array) -> jax.Array:
        """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's, for dropout."""
        ...

    def logical_axes(self, config: Any) -> Params:
        """The parameters' tree with a tuple of logical axis names in place of each array."""
        ...


class SeamError(ValueError):
    """A module that is no pair; `faults` has a line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclasses.dataclass(frozen=True)
class Twins:
    """A pair that was loaded: everything here is known to be there."""

    module: str
    config: type[Any]
    sizes: Mapping[str, Mapping[str, Any]]
    names: tuple[str, ...]  # of the implementations, the first one's parameters are shared
    get: Callable[[str], Implementation]  # by one of these names
    tflop_per_step: Callable[[Any, int, int], tuple[float, float]] | None = None


def load(name: str) -> Twins:
    """The pair that the module `name` is; SeamError with a line for each thing that is missing."""
    module = _import(name)
    if isinstance(module, str):
        raise SeamError([f"{name}: {module}"])
    faults = _config_faults(name, module)
    names = tuple(getattr(module, "IMPLEMENTATIONS", ("linen", "nnx")))
    if len(names) != 2 or not all(isinstance(one, str) for one in names):
        faults.append(f"{name}: IMPLEMENTATIONS={names!r}: must be two names")
        names = ()
    found: dict[str, Any] = {}
    for one in names:
        found[one] = getattr(module, one, None)
        if found[one] is None:
            found[one] = _import(f"{name}.{one}")
        if isinstance(found[one], str):
            faults.append(f"{name}: no implementation {one!r}: {name}.{one} {found[one]}")
        else:
            faults += _function_faults(f"{name}.{one}", found[one])
    if faults:
        raise SeamError(faults)
    return Twins(
        name,
        module.ModelConfig,
        getattr(module, "SIZES", {}),
        names,
        found.__getitem__,
        getattr(module, "tflop_per_step", None),
    )


def _import(name: str) -> ModuleType | str:
    """The module, or in words why there is none."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            return "is not there: neither in this folder nor installed"
        last = traceback.extract_tb(sys.exc_info()[2])[-1]
        told = " ".join(str(error).split())
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"does not import: {type(error).__name__}: {told} ({where})"


def _config_faults(name: str, module: ModuleType) -> list[str]:
    config = getattr(module, "ModelConfig", None)
    if config is None:
        return [f"{name}: has no ModelConfig, the dataclass that --set model.* sets"]
    where = f"{name}.ModelConfig"
    if not (dataclasses.is_dataclass(config) and isinstance(config, type)):
        return [f"{where}: is no dataclass"]
    faults = []
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        faults.append(f"{where}: is not frozen; write @dataclass(frozen=True)")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if "vocab" not in fields:
        faults.append(f"{where}: has no vocab, from which the tokens are drawn")
    no_default = [
        field.name
        for field in fields.values()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if no_default:
        faults.append(f"{where}: no default for {', '.join(no_default)}")
    for size, settings in getattr(module, "SIZES", {}).items():
        unknown = [key for key in settings if key not in fields]
        if unknown:
            faults.append(f"{name}.SIZES[{size!r}]: {', '.join(unknown)}: not in ModelConfig")
    return faults


def _function_faults(where: str, implementation: Any) -> list[str]:
    faults = []
    for name, arguments in _FUNCTIONS.items():
        function = getattr(implementation, name, None)
        call = f"{name}({', '.join(arguments)})"
        if not callable(function):
            faults.append(f"{where}: has no {call}")
            continue
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError:
            faults.append(
                f"{where}: {name}{inspect.signature(function)} cannot be called as {call}"
            )
        except ValueError:  # some callables do not tell their arguments
            continue
    return faults
