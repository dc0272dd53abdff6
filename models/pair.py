"""Two models as their authors wrote them, made a family that can be trained and compared.

PAIR = Pair(
    linen=CNN(),
    nnx=lambda rngs: OtherCNN(rngs=rngs),
    batch=lambda rng, size: {"image": rng.random((size, 28, 28, 1), "float32"), ...},
    loss=lambda model, batch: ...,
)

A step has one loss and one update; digests, turns and bisect rest on that. So a GAN whose two
losses are minimised by two optimizers in turn is no pair: write its losses as one, whose gradients
turn round between the two networks. What flax keeps under `_overwrite_with_gradient`, as its fp8
does, is replaced by its gradient in each step.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

from models.seam import Family, SeamError

if TYPE_CHECKING:  # a pair can be told of before JAX is imported
    import jax

    from models.pairing.experiment import Experiment
    from models.pairing.sides import Side

_SIZES = ("full", "tiny", "awkward")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """What a user writes of two models.

    linen: a linen.Module as it is, or what makes one of `sizes`. nnx: what makes an nnx.Module of
    nnx.Rngs and, by name, `sizes`. sides: two of either kind by names of your own instead; also
    (init, apply), two functions: parameters of a key, and whatever of parameters and the rest.
    batch: the arrays of a step by name, examples along their first axis, of a
    numpy.random.Generator and the number of examples.
    loss: a scalar, or that and metrics by name, of the model and the batch: the nnx.Module, the
    linen.Module bound to its variables, or apply with its parameters. With a third argument it is
    given the step's key. One for both, or one for each side by its name. evaluation: likewise, of
    the models as they are used, without dropout and by running statistics; without it nothing
    compares how models are used that draw random numbers or hold a state.
    sizes: arguments of the models, batch and loss by name: all of them under "full", those of a
    small model under "tiny", and under "awkward" of a small one whose widths are no powers of two:
    others make scales that are exact, and hide how two models round.
    trained: a regular expression; parameters of the first side without it in their path are frozen.
    optimizer: as models.seam says. axes: on which mesh axis (data, fsdp, tensor) the axes lie that
    the models themselves name. mesh: of devices and, by name, of `sizes`, a mesh of the models' own
    with other axes, given as `mesh` to what makes a model and takes it. On it arrays lie as `axes`
    says, and whole where it says nothing; the batch lies as its "batch". names: partners that are
    wrongly found, the second side's path by the first's. tflop_per_step: of the config and the
    number of examples, in 10^12 operations.
    streams: the random streams of a Linen module; those that it asks for are found.
    """

    batch: Callable[..., Mapping[str, Any]]
    loss: Callable[..., Any] | Mapping[str, Callable[..., Any]]
    linen: Any = None
    nnx: Any = None
    evaluation: Callable[..., Any] | Mapping[str, Callable[..., Any]] | None = None
    sides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    trained: str | None = None
    optimizer: Callable[[Any, Callable[..., Any]], Any] | None = None
    axes: Mapping[str, str | tuple[str, ...] | None] = dataclasses.field(default_factory=dict)
    mesh: "Callable[..., jax.sharding.Mesh] | None" = None
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tflop_per_step: Callable[[Any, int], float] | None = None
    streams: tuple[str, ...] = ()

    @property
    def both(self) -> dict[str, Any]:
        """The two sides by name."""
        usual = {"linen": self.linen, "nnx": self.nnx}
        return {**{name: one for name, one in usual.items() if one is not None}, **self.sides}

    def family(self, name: str) -> Family:
        """The family that it is, in the module `name`; SeamError with a line for each fault."""
        where = f"{name}.PAIR"
        faults = [f"{where}: {fault}" for fault in _faults(self)]
        if faults:
            raise SeamError(faults)
        config = _config(self.sizes)
        names = tuple(self.both)

        @functools.cache
        def experiment() -> "Experiment":
            from models.pairing.experiment import Experiment

            small = dataclasses.replace(config(), **self.sizes.get("tiny", {}))
            sides, evaluators = (
                tuple(_side(self, one, loss) for one in names)
                for loss in (self.loss, self.evaluation or self.loss)
            )
            return Experiment(where, names, sides, evaluators, self, small)

        def tflop_per_step(config: Any, length: int, batch: int) -> tuple[float, float]:
            assert self.tflop_per_step is not None
            return self.tflop_per_step(config, batch), 0.0

        return Family(
            name,
            config,
            names,
            functools.cache(lambda one: experiment().member(0 if one == names[0] else 1)),
            sizes={size: values for size, values in self.sizes.items() if size != "full"},
            evaluated=lambda config: experiment().evaluated(config),
            tflop_per_step=tflop_per_step if self.tflop_per_step is not None else None,
            batch=lambda config, rng, size, length: _batch(self, config, rng, size),
            optimizer=self.optimizer,
            rules=self.axes,
            mesh=None if self.mesh is None else functools.partial(_mesh, self, where),
            lenient=True,
            unit="example",
            matched=lambda: experiment().matched(),
            renamed=lambda config, one, arrays: experiment().renamed(
                config, names.index(one), arrays
            ),
        )


def _batch(pair: Pair, config: Any, rng: Any, size: int) -> dict[str, Any]:
    """A pair's batch in the types that JAX computes in."""
    from models.pairing.batches import checked

    return checked(pair.batch, rng, size, _arguments(config))


def _arguments(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _mesh(pair: Pair, where: str, config: Any, devices: Any) -> "jax.sharding.Mesh":
    """A pair's own mesh of these devices; SeamError for what is none."""
    from models.pairing import meshes, sides

    assert pair.mesh is not None
    try:
        return meshes.made(pair.mesh, _arguments(config), devices)
    except sides.PairFault as fault:
        raise SeamError([f"{where}: {fault}"]) from None


def _config(sizes: Mapping[str, Mapping[str, Any]]) -> type[Any]:
    """A dataclass of the models' arguments, the full size's as defaults."""
    fields: list[tuple[str, Any, Any]] = [
        (key, type(value), dataclasses.field(default_factory=functools.partial(_itself, value)))
        for key, value in sizes.get("full", {}).items()
    ]
    return dataclasses.make_dataclass("ModelConfig", fields, frozen=True)


def _itself(value: Any) -> Any:
    return value


def _faults(pair: Pair) -> list[str]:
    """What is wrong with a pair that can be told without running anything of it."""
    found = []
    names = list(pair.both)
    if len(names) != 2:
        given = ", ".join(names) or "none"
        found.append(f"must have two sides, linen= and nnx=, or sides={{name: ...}}; has {given}")
    found += [
        f"sides: the name {one!r} must be letters, digits and _, the first a letter"
        for one in names
        if not (one.isidentifier() and one[0].isalpha())
    ]
    if not callable(pair.batch):
        found.append(f"batch is a {type(pair.batch).__name__}; must be a function of rng and size")
    found += _losses_faults("loss", pair.loss, names)
    if pair.evaluation is not None:
        found += _losses_faults("evaluation", pair.evaluation, names)
    found += _option_faults(pair)
    for one, model in pair.both.items() if not found else ():
        found += [f"{one}: {fault}" for fault in _side_faults(one, model)]
    return found


def _losses_faults(what: str, given: Any, names: list[str]) -> list[str]:
    losses = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    found = []
    if {*losses} != {*names}:
        found.append(f"{what} is for {', '.join(losses)}; must be for {' and '.join(names)}")
    for loss in {id(one): one for one in losses.values()}.values():
        found += _loss_faults(what, loss)
    return found


def _loss_faults(what: str, loss: Any) -> list[str]:
    if not callable(loss):
        return [f"{what} is a {type(loss).__name__}; must be a function of model and batch"]
    from models.pairing.sides import positional

    count = positional(loss)
    if count is not None and count not in (2, 3):
        told = f"{what}{inspect.signature(loss)}"
        return [f"{told}: must take model and batch, and a key if it wants"]
    return []


def _option_faults(pair: Pair) -> list[str]:
    options = {"sizes": pair.sizes, "axes": pair.axes, "names": pair.names}
    for name, one in options.items():
        if not isinstance(one, Mapping):
            return [f"{name} is a {type(one).__name__}; must be a dict"]
    found = _size_faults(pair.sizes)
    partners = list(pair.names.values())
    twice = {one for one in partners if partners.count(one) > 1}
    found += [f"names: {one!r} is the partner of several" for one in sorted(map(str, twice))]
    if not (pair.mesh is None or callable(pair.mesh)):
        found.append(f"mesh is a {type(pair.mesh).__name__}; must be a function of devices")
    if isinstance(pair.streams, str):
        found.append(f"streams is a text; must be a tuple of names, ({pair.streams!r},)")
    try:
        re.compile(pair.trained or "")
    except (re.error, TypeError) as error:
        found.append(f"trained={pair.trained!r}: is not a regular expression: {error}")
    return found


def _size_faults(sizes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = [f"sizes[{size!r}]: known are {', '.join(_SIZES)}" for size in sizes.keys() - {*_SIZES}]
    full = sizes.get("full", {})
    for small in _SIZES[1:]:
        missing = [key for key in sizes.get(small, {}) if key not in full]
        if missing:
            found.append(f"sizes['full'] lacks {', '.join(missing)}, which sizes[{small!r}] has")
    return found + [
        f"sizes[{size!r}][{name!r}] is a {type(one).__name__}; must be what cannot change"
        for size, values in sizes.items()
        for name, one in values.items()
        if not isinstance(one, Hashable)
    ]


def _side_faults(name: str, model: Any) -> list[str]:
    from models.pairing.making import fault

    told = fault(name, model)
    return [] if told is None else [told]


def _side(pair: Pair, name: str, losses: Any) -> "Side":
    from models.pairing.making import side

    loss = losses[name] if isinstance(losses, Mapping) else losses
    return side(name, pair.both[name], loss, pair.streams, pair.mesh)
