"""The seam: what a family of models offers to be trained, and how a module becomes one.

A module with `PAIR`, a models.pair.Pair, is two models as their authors wrote them; what follows is
what it becomes, and what a module may be instead.

A family is a module: `models.decoder` is one, `--twins package.module` names another. It has

* `ModelConfig`, a frozen dataclass with defaults for everything: the keys of `--set model.*`;
* two implementations, each a submodule or an attribute that has the functions of `Implementation`.
  They are called "linen" and "nnx", or as `IMPLEMENTATIONS` lists them; the first one's initial
  parameters are shared.

Whatever else a family says of itself is an option of `Family`, and in the module an attribute of
that option's name (`SIZES` for `sizes`).
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from models.cut import Cut

if TYPE_CHECKING:  # a family can be told of without JAX
    import jax
    import numpy as np
    from flax import nnx

Params = Mapping[str, Any]  # nested by path; the leaves are arrays, or whatever is said of them
Batch = Mapping[str, Any]  # arrays by name, the sequences or examples along the first axis
USUAL_NAMES = ("linen", "nnx")
# Of a model's state: what one implementation alone holds, which is saved but neither compared nor
# taken over by the other; and what a step replaces by its gradient, as it does the scales of fp8.
OWN, REPLACED = "own", "replaced"
LONGEST = ("longest",)  # instead of logical axes: the longest axis that can be is divided

_FUNCTIONS = {
    "init": ("config", "key"),
    "apply": ("config", "params", "tokens", "key"),
    "logical_axes": ("config",),
}


class Variables(NamedTuple):
    """What `init` makes of a model that holds more than parameters.

    model_state: what a step changes and no optimizer does, such as running statistics.
    """

    params: Params
    model_state: Params


class Matched(NamedTuple):
    """What is known of two implementations that were matched by experiment; each a line.

    names: whose array is whose. alone: what one alone holds or takes, so that nothing compares it.
    differing: that they make other numbers from equal values. unsure: what may be a difference, or
    rounding. started: fresh values that are not alike. uncompared: what else nothing compares.
    """

    names: tuple[str, ...]
    alone: tuple[str, ...]
    differing: tuple[str, ...]
    unsure: tuple[str, ...]
    started: tuple[str, ...]
    uncompared: tuple[str, ...]


class Outcome(NamedTuple):
    """One forward pass: a scalar loss, scalar metrics by name, the model's state after it.

    The metrics hold `total_weights`, over how many targets the loss is a mean.
    """

    loss: "jax.Array"
    metrics: "Mapping[str, jax.Array]"
    model_state: Params | None = None


class Implementation(Protocol):
    """What is trained: pure functions of plain trees.

    All implementations of one family hold the same tree of parameters. No random state lives in it:
    everything random is a function of the key that `apply` is given.

    One may also have, in place of the family's:

    * `optimizer(settings, learning_rate)`, of the case's `optim` section and its schedule: what to
      train with, an optax transformation or an Optimizer of harness/optimizers;
    * `loss(config, params, model_state, batch, key)`, an Outcome: the whole forward pass; needed of
      a model with state. `evaluation`, likewise: as it is evaluated, where that is another one.
    """

    def init(self, config: Any, key: "jax.Array") -> Params | Variables:
        """Fresh parameters: a nested dict of arrays."""
        ...

    def apply(
        self, config: Any, params: Params, tokens: "jax.Array", key: "jax.Array"
    ) -> "jax.Array":
        """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's, for dropout."""
        ...

    def logical_axes(self, config: Any) -> Params:
        """The parameters' tree with a tuple of logical axis names in place of each array."""
        ...


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything the harness may ask of a family; what has a default here is an option.

    resolve: the config with "auto" settled for a platform and a sequence length; ValueError, in the
    words of the config's own, for what a platform lacks. evaluated: the config without dropout.
    tflop_per_step: the matrix products of a step, forward and backward, in 10^12 operations of one
    device's batch, and attention's percentage of them. parts: names, as they stand in the paths of
    operations and parameters, by the part of the model that they belong to; without it a part is
    the top module of the path. sizes: by name, settings of the model and, by a dotted key, of the
    rest of the case. quantization: the format of the matmuls ("none", "int8", "fp8"), and
    `quantized` which. compute_dtype: to what type a step brings all parameters, once, and in which
    their gradients are summed over microbatches; None: to none. pipeline: where models/cut.py cuts.
    loss: of logits and batch, and metrics; the cross entropy of `batch["targets"]` when not given.
    batch: the arrays of one step, of a generator, their number and the sequence length; token
    sequences when not given. packed: whether a sequence may hold several documents: the batch then
    may tell of `segments` [B, T], and targets below 0 do not count.
    optimizer: as Implementation has it. module: builds the NNX model, so that its own objects can
    be taken across jit. metrics: those beside loss and grad_norm. counts: those that add up over
    parts of a batch; the others are means over its targets, but for those `derived` from the loss
    and the metrics of a whole batch.
    rules: on which mesh axes logical axes of its own lie; mesh_axes: those that are its own, of
    which each is a key of `parallel`. mesh: its own, of the config and devices. lenient: an array
    whose axes no rule knows, or no devices divide, lies along its longest axis.
    unit: what a step's total_weights count. matched: what was found of names of their own; renamed:
    of a config, one of the names and arrays by path, the same as it has them, None if of neither.
    """

    name: str
    config: type[Any]
    names: tuple[str, ...]  # of the implementations, the first one's parameters are shared
    get: Callable[[str], Implementation]  # by one of these names
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    resolve: Callable[[Any, str, int], Any] = lambda config, platform, length: config
    evaluated: Callable[[Any], Any] = lambda config: config
    tflop_per_step: Callable[[Any, int, int], tuple[float, float]] | None = None
    parts: Mapping[str, tuple[str, ...]] | None = None
    quantization: Callable[[Any], str] = lambda config: "none"
    quantized: tuple[str, ...] = ()
    compute_dtype: Callable[[Any], str | None] = lambda config: None
    pipeline: Cut | None = None
    loss: "Callable[[jax.Array, Batch], tuple[jax.Array, Mapping[str, jax.Array]]] | None" = None
    batch: "Callable[[Any, np.random.Generator, int, int], dict[str, np.ndarray]] | None" = None
    packed: bool = False
    optimizer: Callable[[Any, Callable[..., Any]], Any] | None = None
    metrics: tuple[str, ...] = ()
    counts: tuple[str, ...] = ("total_weights",)
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda metrics: {}
    module: "Callable[[Any], nnx.Module] | None" = None
    rules: Mapping[str, str | tuple[str, ...] | None] = dataclasses.field(default_factory=dict)
    mesh_axes: tuple[str, ...] = ()
    mesh: "Callable[[Any, Sequence[jax.Device]], jax.sharding.Mesh] | None" = None
    lenient: bool = False
    unit: str = "token"
    matched: Callable[[], Matched] | None = None
    renamed: Callable[[Any, str, Mapping[str, Any]], dict[str, Any] | None] | None = None


_OPTIONS = [
    field.name
    for field in dataclasses.fields(Family)
    if not field.default is field.default_factory is dataclasses.MISSING
]


class SeamError(ValueError):
    """A module that is not a family; `faults` has a line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(name: str, check: bool = True) -> Family:
    """The family that the module `name` is; SeamError with a line for each thing that is missing.

    check: whether to import both implementations now, to say what they lack; else each is imported,
    and the framework it is written in, when it is first asked for.
    """
    module = _import(name)
    if isinstance(module, str):
        raise SeamError([f"{name}: {module}"])
    pair = getattr(module, "PAIR", None)
    if pair is not None:
        if not hasattr(pair, "family"):
            kind = type(pair).__name__
            raise SeamError([f"{name}.PAIR: is a {kind}; must be a models.pair.Pair"])
        family: Family = pair.family(name)
        return family
    faults = _config_faults(name, module)
    names = tuple(getattr(module, "IMPLEMENTATIONS", USUAL_NAMES))
    if len(names) != 2 or not all(isinstance(one, str) for one in names):
        faults.append(f"{name}: IMPLEMENTATIONS={names!r}: must be two names")
        names = ()
    for one in names if check else ():
        faults += _implementation_faults(name, one, _implementation(module, one))
    if faults:
        raise SeamError(faults)
    get = functools.cache(lambda one: _get(module, names, one))
    options = {
        option: getattr(module, attribute)
        for option in _OPTIONS
        if hasattr(module, attribute := "SIZES" if option == "sizes" else option)
    }
    return Family(name, module.ModelConfig, names, get, **options)


def _get(module: ModuleType, names: tuple[str, ...], one: str) -> Implementation:
    if one not in names:
        raise SeamError([f"impl={one!r}: must be one of {', '.join(names)}"])
    found = _implementation(module, one)
    faults = _implementation_faults(module.__name__, one, found)
    if faults:
        raise SeamError(faults)
    implementation: Implementation = found
    return implementation


def _implementation(module: ModuleType, one: str) -> Any:
    """The implementation, or in words why there is none."""
    found = getattr(module, one, None)
    return _import(f"{module.__name__}.{one}") if found is None else found


def _implementation_faults(name: str, one: str, found: Any) -> list[str]:
    if isinstance(found, str):
        return [f"{name}: no implementation {one!r}: {name}.{one} {found}"]
    return _function_faults(f"{name}.{one}", found)


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
        return [f"{where}: is not a dataclass"]
    faults = []
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        faults.append(f"{where}: is not frozen; write @dataclass(frozen=True)")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if "vocab" not in fields and not hasattr(module, "batch"):
        faults.append(f"{where}: has no vocab, from which the tokens are drawn")
    no_default = [field.name for field in fields.values()
                  if field.default is field.default_factory is dataclasses.MISSING]  # fmt: skip
    if no_default:
        faults.append(f"{where}: no default for {', '.join(no_default)}")
    for size, settings in getattr(module, "SIZES", {}).items():
        unknown = [key for key in settings if key not in fields and "." not in key]
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
