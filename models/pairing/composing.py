"""How arrays of one side make up the other's: fused, stacked, transposed; tried until it is proved.

Everything whose layout is still open holds one number everywhere, which no layout changes, while
one layout at a time is given values of its own: the two models then agree if it is right.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.pairing.layouts import Layout, Shape
from models.pairing.links import Group, How, Link, numbers
from models.pairing.partners import kind

_MOST_PARTS = 4
_RIGHT = 2e-3  # how far apart two models may be that compute the same in another order
Score = Callable[[Sequence[Link]], float]  # how far apart the sides are, given these links


@dataclass(frozen=True)
class Unit:
    """What is laid out in one way: an array, or the arrays of that name of each layer."""

    groups: tuple[
        Group, ...
    ]  # one a layer; a single one where layers are stacked, or there are none
    shape: Shape
    place: float

    @property
    def size(self) -> int:
        """The numbers in one of its arrays."""
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """What its arrays are called last."""
        return kind(self.groups[0][0])


def units(
    shapes: Mapping[str, Shape], places: Mapping[str, float], others: Mapping[str, Shape]
) -> list[Unit]:
    """The open arrays of a side, in the order of first use; layers that `others` stack, stacked."""
    layers = _layers(shapes)
    depth = _depth(layers, _layers(others), others)
    found = []
    for paths in layers.values():
        shape = tuple(shapes[paths[0]])
        stacks = len(paths) // depth if depth and len(paths) % depth == 0 else 0
        for start in range(stacks):  # several of one name in a layer follow each other
            group = tuple(paths[start::stacks])
            found.append(Unit((group,), (len(group), *shape), min(map(places.__getitem__, group))))
        if not stacks:
            groups = tuple((path,) for path in paths)
            found.append(Unit(groups, shape, min(map(places.__getitem__, paths))))
    return sorted(found, key=lambda unit: unit.place)


def _layers(shapes: Mapping[str, Shape]) -> dict[tuple[str, Shape], list[str]]:
    """The paths of one name and shape, in the order of their numbers."""
    layers: dict[tuple[str, Shape], list[str]] = {}
    for path, shape in shapes.items():
        layers.setdefault((_of_layers(path), tuple(shape)), []).append(path)
    return {name: sorted(paths, key=numbers) for name, paths in layers.items()}


def _depth(
    ours: Mapping[tuple[str, Shape], list[str]],
    theirs: Mapping[tuple[str, Shape], list[str]],
    others: Mapping[str, Shape],
) -> int | None:
    """How many layers this side lists that the other one stacks; None: they are alike in that."""
    listed = {len(paths) for paths in theirs.values()}
    lengths = {length for shape in others.values() for length in shape if length > 1}
    counts = [len(paths) for paths in ours.values() if len(paths) > 1]
    fitting = {length: sum(count % length == 0 for count in counts)
               for length in lengths if length not in listed}  # fmt: skip
    best = max(fitting, key=lambda length: fitting[length], default=0)
    return best if fitting.get(best) else None


def _of_layers(path: str) -> str:
    """The path with its first number open: a name of its own, or the end of one."""
    return re.sub(r"(?<![^/_])\d+(?![^/])", "*", path, count=1)


def compose(a: list[Unit], b: list[Unit], score: Score) -> list[Link]:
    """Links of open arrays that make the sides agree; what no layout explains is left out.

    Sides that differ for another reason agree in none: parts that are used one after the other are
    then linked by their order, in the layout that is nearest.
    """
    found: list[Link] = []
    open_a, open_b = list(a), list(b)
    for choose in (_right, _nearest):
        progress = True
        while progress and open_a and open_b:
            progress = False
            for parts, wholes, is_a_whole in ((open_a, open_b, False), (open_b, open_a, True)):
                for whole in list(wholes):
                    chosen = choose(whole, parts, is_a_whole, found, score)
                    if chosen is None:
                        continue
                    used, links = chosen
                    found += links
                    wholes.remove(whole)
                    for part in used:
                        parts.remove(part)
                    progress = True
    return found


Chosen = tuple[Sequence[Unit], list[Link]] | None


def _right(
    whole: Unit, parts: Sequence[Unit], is_a_whole: bool, found: Sequence[Link], score: Score
) -> Chosen:
    """The first way to make a unit that is right."""
    for used, layout in _ways(whole, parts, is_a_whole):
        links = _links(whole, used, layout, is_a_whole, "value")
        if score([*found, *links]) < _RIGHT:
            return used, links
    return None


def _nearest(
    whole: Unit, parts: Sequence[Unit], is_a_whole: bool, found: Sequence[Link], score: Score
) -> Chosen:
    """The likeliest way to make a unit of several, unless another one is clearly nearer.

    None where a single one could be it.
    """
    if any(part.size == whole.size for part in parts):
        return None
    ways = [
        (used, _links(whole, used, layout, is_a_whole, "order"))
        for used, layout in _ways(whole, parts, is_a_whole)
        if len(used) > 1
    ]
    if not ways:
        return None
    far = [score([*found, *links]) for _, links in ways]
    nearest = min(range(len(ways)), key=far.__getitem__)
    return ways[nearest if far[nearest] < far[0] / 2 else 0]


def _links(
    whole: Unit, parts: Sequence[Unit], layout: Layout, is_a_whole: bool, how: How
) -> list[Link]:
    made = []
    for layer, group in enumerate(whole.groups):
        pieces = tuple(part.groups[layer] for part in parts)
        a, b = ((group,), pieces) if is_a_whole else (pieces, (group,))
        made.append(Link(a, b, how, layout))
    return made


def _ways(
    whole: Unit, parts: Sequence[Unit], is_a_whole: bool
) -> Iterator[tuple[Sequence[Unit], Layout]]:
    """Every way to make a unit of one or several of the other side's, the likelier ones first."""
    like = [part for part in parts if len(part.groups) == len(whole.groups)]
    # One to one is tried from one side alone.
    alone = [] if is_a_whole else [part for part in like if part.size == whole.size]
    alone.sort(key=lambda part: part.kind != whole.kind)
    for part in alone:
        yield (part,), Layout()
    for run in _runs(like, whole):
        for layout in _sides(run, whole):
            for used in itertools.permutations(run):
                if layout.fits([part.shape for part in used], whole.shape):
                    yield used, layout
    for part in alone:
        for layout in _turns(part.shape, whole.shape):
            yield (part,), layout


def _runs(parts: Sequence[Unit], whole: Unit) -> Iterator[Sequence[Unit]]:
    """Units that are used one after the other and make up a whole; those of one kind first."""
    kinds = sorted({part.kind for part in parts}, key=lambda name: (name != whole.kind, name))
    seen = set()
    for like in (*([part for part in parts if part.kind == name] for name in kinds), parts):
        for several in range(2, _MOST_PARTS + 1):
            for start in range(len(like) - several + 1):
                run = tuple(like[start : start + several])
                if run not in seen and sum(part.size for part in run) == whole.size:
                    seen.add(run)
                    yield run


def _turns(part: Shape, whole: Shape) -> Iterator[Layout]:
    for order in itertools.permutations(range(len(part))):
        if order != tuple(range(len(part))):
            yield Layout(turned=order)
    for order in itertools.permutations(range(len(whole))):
        if order != tuple(range(len(whole))):
            yield Layout(whole_turned=order)


def _sides(run: Sequence[Unit], whole: Unit) -> Iterator[Layout]:
    axes = reversed(range(len(whole.shape)))
    turned = (None, (1, 0)) if all(len(part.shape) == 2 for part in run) else (None,)
    for axis, order in itertools.product(axes, turned):
        yield Layout(turned=order, axis=axis)
        for inner in range(1, min(len(part.shape) for part in run)):
            yield Layout(turned=order, axis=axis, inner=inner)
