"""A pair that is tried out once, small, before anything of it is trained."""

import functools
import re
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from models.pairing import batches, findings, learning, links, meshes
from models.pairing.findings import Findings
from models.pairing.further import further
from models.pairing.learning import Learnt
from models.pairing.member import Evaluated, Member, Names, arguments_of, shapes_of
from models.pairing.probing import Probe
from models.pairing.sides import PairFault, Side
from models.seam import Batch, Implementation, Matched, SeamError
from models.shared import partitioning

_EXAMPLES = 5  # odd: what drops the rest of a batch shows
_BATCHES = 3


class _Written(Protocol):
    """What is needed of a Pair."""

    @property
    def batch(self) -> Callable[..., Mapping[str, Any]]: ...
    @property
    def evaluation(self) -> Any: ...
    @property
    def mesh(self) -> meshes.Make | None: ...
    @property
    def names(self) -> Mapping[str, str]: ...
    @property
    def optimizer(self) -> Any: ...
    @property
    def trained(self) -> str | None: ...


class Experiment:
    """Two sides, what was found of them, and the members that train them.

    evaluators: the sides as they are evaluated. small: the config at which they are tried. Raises
    SeamError, with a line for each thing that keeps them from being trained.
    """

    def __init__(
        self,
        where: str,
        names: tuple[str, ...],
        sides: Any,
        evaluators: Any,
        pair: _Written,
        small: Any,
    ) -> None:
        self._where = where
        self._names = names
        self._sides: tuple[Side, Side] = sides
        self._evaluators: tuple[Side, Side] = evaluators
        self._pair = pair
        self._small = arguments_of(small)
        self._examples_of = functools.cache(self._make_example)
        self._links = functools.cache(self._find_links)
        self._changing: list[str] = []  # sides that are others when they are evaluated
        self._findings = self._find()
        self._learnt = self._findings.learnt

    def member(self, number: Literal[0, 1]) -> Implementation:
        """The implementation that one side is."""
        given = (
            self._sides,
            number,
            lambda arguments: self._links(tuple(arguments.items())),
            lambda arguments: self._example(tuple(arguments.items())),
            self._pair.trained,
            self._pair.mesh is None,
        )
        is_other = self._pair.evaluation is not None
        made: Any = Evaluated(self._evaluators[number], *given) if is_other else Member(*given)
        return made

    def evaluated(self, config: Any) -> Any:
        """The config as it is; SeamError where what is trained is not what would be evaluated."""
        if self._pair.evaluation is None and self._changing:
            why = " and ".join(self._changing)
            raise SeamError(
                [f"{self._where}: {why}: evaluation= must say how it is evaluated, as loss= does"]
            )
        return config

    def matched(self) -> Matched:
        """What was found, in words."""
        return findings.told(self._names, self._findings)

    def renamed(self, config: Any, to: int, arrays: Mapping[str, Any]) -> dict[str, Any] | None:
        """Parameters, all of them or what is trained or frozen, or state, as one side has them.

        None: they are of neither.
        """
        arguments = tuple(arguments_of(config).items())
        known = self._links(arguments)
        held = shapes_of(self._sides, dict(arguments), self._example(arguments))
        trained = [link for link in known.params if self._is_trained(link)]
        frozen = [link for link in known.params if link not in trained]
        for links_of, part in ((known.params, 0), (trained, 0), (frozen, 0), (known.state, 1)):
            forms = [{path: tuple(one.shape) for path, one in side[part].items()} for side in held]
            linked = (links.paths(links_of, 0), links.paths(links_of, 1))
            of = [number for number in (0, 1) if arrays and arrays.keys() == linked[number]]
            if to in of:
                return dict(arrays)
            if of:
                turn = links.to_b if to == 1 else links.to_a
                made: dict[str, Any] = turn(links_of, arrays, forms[to])
                return made
        return None

    def _is_trained(self, link: links.Link) -> bool:
        pattern = self._pair.trained or ""
        return all(re.search(pattern, path) for group in link.a for path in group)

    def _find(self) -> Findings:
        arguments = self._small
        mesh = self._pair.mesh
        if mesh is not None:
            self._told("mesh", lambda: meshes.current(mesh, arguments))
        examples = self._told("batch", lambda: self._examples(arguments))
        probes: list[Probe] = []
        faults: list[str] = []
        for name, side in zip(self._names, self._sides, strict=True):
            try:
                probes.append(self._told(name, partial(Probe, side, arguments, examples)))
            except SeamError as error:
                faults += error.faults
        if faults:
            raise SeamError(faults)
        for name, probe in zip(self._names, probes, strict=True):
            if probe.is_random or probe.state:
                what = "draws random numbers" if probe.is_random else "holds a state"
                self._changing.append(f"{name} {what}")
        faults = self._option_faults(probes[0], probes[1])
        if faults:
            raise SeamError(faults)
        learnt = learning.learn(probes[0], probes[1], self._pair.names)
        faults = self._unlinked(learnt, probes[0], probes[1])
        if faults:
            raise SeamError(faults)
        evaluators = None if self._pair.evaluation is None else self._evaluators
        more = self._told("evaluation", lambda: further(probes[0], probes[1], learnt, evaluators))
        unsaid = [] if evaluators is not None else self._changing
        said = self._pair.optimizer is not None, self._pair.trained is not None
        return Findings(learnt, more, (probes[0], probes[1]), tuple(unsaid), *said)

    def _option_faults(self, a: Probe, b: Probe) -> list[str]:
        """What the pair says of arrays that are not so."""
        found = []
        for pair in self._pair.names.items():
            arrays = [probe.params | probe.state for probe in (a, b)]
            unknown = [n for n in (0, 1) if pair[n] not in arrays[n]]
            found += [f"{pair[n]!r} is not an array of {self._names[n]}" for n in unknown]
            if not unknown and (
                arrays[0][pair[0]].size != arrays[1][pair[1]].size
                or (pair[0] in a.params) != (pair[1] in b.params)
            ):
                found.append(f"{pair[0]} and {pair[1]} differ in size, or one is not a parameter")
        found = [f"{self._where}: names: {one}" for one in found]
        pattern = self._pair.trained or ""
        if a.params and not any(re.search(pattern, path) for path in a.params):
            found.append(
                f"{self._where}: trained={pattern!r}: is in no parameter of {self._names[0]}"
            )
        return found

    def _unlinked(self, learnt: Learnt, a: Probe, b: Probe) -> list[str]:
        """A line for each side with parameters that have no partner, or one of another type."""
        found = []
        for side, probe in enumerate((a, b)):
            alone = [path for path in learnt.alone[side] if path in probe.params]
            if not alone:
                continue
            shapes = [f"{path} {list(probe.params[path].shape)}" for path in alone]
            numbers = sum(probe.params[path].size for path in alone)
            several = f"{len(alone)} parameters of {numbers:,} numbers"
            found.append(
                f"{self._where}: {self._names[side]} has"
                f" {'1 parameter' if len(alone) == 1 else several} that nothing of"
                f" {self._names[1 - side]} could be: {findings.listed(shapes)}"
            )
        for link in learnt.params if not found else ():
            one, other = a.params[link.a[0][0]], b.params[link.b[0][0]]
            if one.dtype != other.dtype:
                found.append(
                    f"{self._where}: {link.a[0][0]} is {one.dtype} in {self._names[0]}, and in"
                    f" {self._names[1]} {link.b[0][0]} is {other.dtype}"
                )
        return found

    def _find_links(self, arguments: Any) -> Names:
        learnt = self._learnt
        if dict(arguments) == self._small:
            return Names(learnt.params, learnt.state)
        both = shapes_of(self._sides, dict(arguments), self._example(arguments))
        shapes = [
            [{path: tuple(leaf.shape) for path, leaf in part.items()} for part in side[:2]]
            for side in both
        ]
        alone = [{path for path in side if path} for side in learnt.alone]
        kept = [
            {path: form for path, form in shapes[n][1].items()
             if links.pattern(path) not in {links.pattern(one) for one in alone[n]}}
            for n in (0, 1)
        ]  # fmt: skip
        try:
            return Names(
                tuple(links.extended(learnt.params, shapes[0][0], shapes[1][0])),
                tuple(links.extended(learnt.state, kept[0], kept[1])),
            )
        except links.Unlearnt as error:
            raise SeamError(
                [f"{self._where}: {error}; let sizes['tiny'] have as many layers"]
            ) from None

    def _example(self, arguments: Any) -> Batch:
        """A small batch, which the devices of a mesh of the pair's own can share."""
        mesh = None if self._pair.mesh is None else partitioning.mesh_in_force()
        return self._examples_of(arguments, 2 if mesh is None else 2 * mesh.size)

    def _make_example(self, arguments: Any, size: int) -> Batch:
        rng = np.random.Generator(np.random.PCG64(0))
        return batches.checked(self._pair.batch, rng, size, dict(arguments))

    def _examples(self, arguments: Any) -> list[Batch]:
        """Batches of one shape; of a pair that makes others anew each time, the first alone."""
        rng = np.random.Generator(np.random.PCG64(0))
        made = [
            batches.checked(self._pair.batch, rng, _EXAMPLES, arguments) for _ in range(_BATCHES)
        ]
        shapes = [{name: (one.shape, one.dtype) for name, one in batch.items()} for batch in made]
        return [batch for batch, shape in zip(made, shapes, strict=True) if shape == shapes[0]]

    def _told(self, what: str, work: Callable[[], Any]) -> Any:
        """What `work` gives; SeamError in one line for whatever a user's code raises."""
        try:
            return work()
        except SeamError:
            raise
        except PairFault as error:
            words = str(error)
            told = words if words.startswith((f"{what}:", f"{what} ")) else f"{what}: {words}"
        except Exception as error:
            told = (
                f"{what} does not run: {type(error).__name__}: {_first_words(error)}{_where(error)}"
            )
        raise SeamError([f"{self._where}: {told}"])


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _where(error: BaseException) -> str:
    """The innermost line of a user's own, such as (mine.py:12)."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not frame.filename.startswith("<")  # no file
        and Path(frame.filename).parent != _HERE
    ]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


_HERE = Path(__file__).parent
