"""Which arrays of two sides are one and the same, and how to turn one side's into the other's."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.pairing.layouts import Layout, Shape, library, told

Group = tuple[str, ...]  # paths of one array, or of several that are stacked along a first axis
How = Literal["value", "order", "hand"]  # found by equal gradients, by order and names; or given


@dataclass(frozen=True)
class Link:
    """Arrays of side a and of side b that hold the same numbers.

    Only one side may have several groups: the parts of the other's whole.
    """

    a: tuple[Group, ...]
    b: tuple[Group, ...]
    how: How
    layout: Layout = field(default_factory=Layout)

    def to_b(self, arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """The arrays of side b, of these shapes, that those of side a make."""
        return _carry(self.a, self.b, self.layout, arrays, shapes)

    def to_a(self, arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """The arrays of side a, of these shapes, that those of side b make."""
        return _carry(self.b, self.a, self.layout, arrays, shapes, back=True)

    @property
    def plain(self) -> bool:
        """Whether it renames one array, or folds its axes, and does nothing else."""
        groups = (*self.a, *self.b)
        return len(groups) == 2 and all(map(_is_one, groups)) and self.layout == Layout()


def _is_one(group: Group) -> bool:
    return len(group) == 1


def _carry(
    have: tuple[Group, ...],
    want: tuple[Group, ...],
    layout: Layout,
    arrays: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    back: bool = False,
) -> dict[str, Any]:
    stacked = [_stacked(group, arrays) for group in have]
    forms = [_form(group, shapes) for group in want]
    # Of one part and one whole, a's is the part.
    if len(want) > 1 or (len(have) == 1 and back):
        made = layout.split(stacked[0], forms)
    else:
        made = [layout.join(stacked, forms[0])]
    return {
        path: one if len(group) == 1 else one[number]
        for group, one in zip(want, made, strict=True)
        for number, path in enumerate(group)
    }


def _stacked(group: Group, arrays: Mapping[str, Any]) -> Any:
    if len(group) == 1:
        return arrays[group[0]]
    layers = [arrays[path] for path in group]
    return library(layers).stack(layers)


def _form(group: Group, shapes: Mapping[str, Shape]) -> Shape:
    shape = tuple(shapes[group[0]])
    return shape if len(group) == 1 else (len(group), *shape)


def to_b(links: Sequence[Link], arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Any:
    """All of side b's arrays, by path, of side a's."""
    return {path: one for link in links for path, one in link.to_b(arrays, shapes).items()}


def to_a(links: Sequence[Link], arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Any:
    """All of side a's arrays, by path, of side b's."""
    return {path: one for link in links for path, one in link.to_a(arrays, shapes).items()}


def paths(links: Iterable[Link], side: Literal[0, 1]) -> set[str]:
    """All paths of side a, 0, or of side b, 1."""
    return {path for link in links for group in (link.a, link.b)[side] for path in group}


def lines(links: Sequence[Link]) -> list[str]:
    """Each link as a line, in the order of side a's names."""
    return [_line(link) for link in sorted(links, key=lambda link: link.a)]


def _line(link: Link) -> str:
    parts = max(len(link.a), len(link.b))
    about = ", ".join(word for word in (told(link.layout, parts), f"by {link.how}") if word)
    return f"{_named(link.a)} = {_named(link.b)}  ({about})"


def _named(groups: tuple[Group, ...]) -> str:
    return " + ".join(
        group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}, stacked" for group in groups
    )


def pattern(path: str) -> str:
    """A path with a * for each number, such as layers/*/kernel."""
    return re.sub(r"\d+", "*", path)


def numbers(path: str) -> tuple[int, ...]:
    """The numbers in a path."""
    return tuple(map(int, re.findall(r"\d+", path)))


def _filled(path: str, values: Sequence[int]) -> str:
    rest = iter(values)
    return re.sub(r"\d+", lambda _: str(next(rest)), path)


class Unlearnt(ValueError):
    """A larger model has arrays that the small one, on which the links were found, has not."""


def extended(links: Sequence[Link], a: Mapping[str, Shape], b: Mapping[str, Shape]) -> list[Link]:
    """The links of a larger model with these arrays: more layers follow those that are there.

    Raises Unlearnt for an array that follows none.
    """
    depth = _depth(links, a, b)
    found = [link for link in (_grown(link, a, b, depth) for link in links) if link is not None]
    reached = {path for link in found for group in link.a for path in group}
    for path in a:
        if path not in reached:
            link = _like(path, links, a, b)
            found.append(link)
            reached.update(one for group in link.a for one in group)
    missing = b.keys() - {path for link in found for group in link.b for path in group}
    if missing:
        raise Unlearnt(f"{min(missing)}: nothing like it is in the small model")
    for link in found:
        forms = [[_form(group, known) for group in groups]
                 for groups, known in ((link.a, a), (link.b, b))]  # fmt: skip
        parts, whole = forms if len(link.b) == 1 else reversed(forms)
        if not link.layout.fits(parts, whole[0]):
            raise Unlearnt(f"{link.a[0][0]}: is no longer what {link.b[0][0]} is laid out as")
    return found


def _grown(
    link: Link, a: Mapping[str, Shape], b: Mapping[str, Shape], depth: int | None
) -> Link | None:
    """The link with as many layers in its stacks as there are; None: the model has it no more."""
    sides = []
    for groups, known in ((link.a, a), (link.b, b)):
        grown = tuple(_chain(group, known)[:depth] if len(group) > 1 else group for group in groups)
        if not all(group and group[0] in known for group in grown):
            return None
        sides.append(grown)
    return Link(sides[0], sides[1], link.how, link.layout)


def _depth(links: Sequence[Link], a: Mapping[str, Shape], b: Mapping[str, Shape]) -> int | None:
    """How many layers are stacked: what follows the last of them may go on with their numbers."""
    chains = [
        len(_chain(group, known))
        for link in links
        for groups, known in ((link.a, a), (link.b, b))
        for group in groups
        if len(group) > 1
    ]
    return min(chains, default=None)


def _chain(group: Group, known: Mapping[str, Shape]) -> Group:
    """The paths that go on as those of a group do, for as long as they are there."""
    first, second = numbers(group[0]), numbers(group[1])
    steps = [later - sooner for sooner, later in zip(first, second, strict=True)]
    found: list[str] = []
    for turn in itertools.count():
        path = _filled(
            group[0], [one + turn * step for one, step in zip(first, steps, strict=True)]
        )
        if path not in known:
            return tuple(found)
        found.append(path)
    raise AssertionError


def _like(path: str, links: Sequence[Link], a: Mapping[str, Shape], b: Mapping[str, Shape]) -> Link:
    """A link for `path` that follows those of the layers before it."""
    for link in links:
        paths = [one for group in link.a for one in group]
        if len(paths) != len(link.a) or path in paths:  # stacks have grown already
            continue
        for one in paths:
            if pattern(one) != pattern(path):
                continue
            steps = [new - old for new, old in zip(numbers(path), numbers(one), strict=True)]
            moved = {step for step in steps if step}
            if len(moved) == 1:
                new = _moved(link, steps, moved.pop())
                if all(n in a for group in new.a for n in group) and all(
                    n in b for group in new.b for n in group
                ):
                    return new
    raise Unlearnt(f"{path}: nothing like it is in the small model")


def _moved(link: Link, steps: Sequence[int], step: int) -> Link:
    """The link of another layer: on each side its number is moved by as much."""
    place = next(n for n, one in enumerate(steps) if one)

    def move(path: str, at: int) -> str:
        values = list(numbers(path))
        if at < len(values):
            values[at] += step
        return _filled(path, values)

    layer = numbers(link.a[0][0])[place]

    def where(path: str) -> int:
        """The number of a path of side b that is the layer's."""
        values = numbers(path)
        return values.index(layer) if layer in values else min(place, len(values) - 1)

    return Link(
        tuple((move(group[0], place),) for group in link.a),
        tuple((move(group[0], where(group[0])),) for group in link.b),
        link.how,
        link.layout,
    )
