"""The same numbers in other arrays: transposed, with axes folded, several side by side in one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How the parts of one side lie in the whole of the other; of one part, how it is turned.

    turned, whole_turned: the order in which the axes of a part and of the whole are taken, None as
    they are; turned so, the two are one sequence of numbers, cut into axes at different places.
    axis: along which, of the whole's turned axes, the parts lie side by side. inner: which axis of
    a part lies further in than the parts do (the parts alternate): all of them after it too; None:
    one part comes after the other.
    """

    turned: tuple[int, ...] | None = None
    whole_turned: tuple[int, ...] | None = None
    axis: int = 0
    inner: int | None = None

    def join(self, parts: Sequence[Any], whole: Shape) -> Any:
        """The whole, of this shape, that the parts make."""
        form = tuple(whole[one] for one in self._order(whole))
        if len(parts) == 1:
            return self._back(_turn(parts[0], self.turned).reshape(form), whole)
        shapes = [tuple(part.shape) for part in parts]
        pieces = [
            _turn(part, self.turned).reshape(piece)
            for part, piece in zip(parts, self._pieces(shapes, form), strict=True)
        ]
        return self._back(library(pieces).concatenate(pieces, self._along()).reshape(form), whole)

    def split(self, whole: Any, parts: Sequence[Shape]) -> list[Any]:
        """The parts, of these shapes, of a whole."""
        turned = _turn(whole, self.whole_turned)
        pieces = [turned]
        if len(parts) > 1:
            forms = self._pieces(parts, tuple(turned.shape))
            along = self._along()
            sizes = [form[along] for form in forms]
            rest = list(forms[0])
            rest[along] = sum(sizes)
            places = [sum(sizes[:n]) for n in range(1, len(sizes))]
            pieces = library([whole]).split(turned.reshape(rest), places, along)
        found = []
        for piece, shape in zip(pieces, parts, strict=True):
            order = self.turned or tuple(range(len(shape)))
            form = tuple(shape[one] for one in order)
            found.append(piece.reshape(form).transpose(_inverse(order)))
        return found

    def fits(self, parts: Sequence[Shape], whole: Shape) -> bool:
        """Whether parts of these shapes make a whole of that one."""
        form = tuple(whole[one] for one in self._order(whole))
        if len(parts) == 1:
            return math.prod(parts[0]) == math.prod(whole)
        try:
            self._pieces(parts, form)
        except ValueError:
            return False
        return True

    def _order(self, whole: Shape) -> tuple[int, ...]:
        return self.whole_turned or tuple(range(len(whole)))

    def _back(self, array: Any, whole: Shape) -> Any:
        return array.transpose(_inverse(self._order(whole)))

    def _along(self) -> int:
        return self.axis if self.inner is None else self.axis + 1

    def _pieces(self, parts: Sequence[Shape], whole: Shape) -> list[Shape]:
        """Each part's form: the whole's axes, that along which it lies cut where it must be.

        ValueError when the parts do not make the whole.
        """
        before, after = whole[: self.axis], whole[self.axis + 1 :]
        beside = math.prod(before) * math.prod(after)
        forms: list[Shape] = []
        for shape in parts:
            length, left = divmod(math.prod(shape), beside)
            if left:
                raise ValueError(f"{list(shape)} is not a part of {list(whole)}")
            if self.inner is None:
                forms.append((*before, length, *after))
                continue
            turned = [shape[one] for one in self.turned or range(len(shape))]
            within = math.prod(turned[self.inner :]) // math.prod(after)
            if within < 1 or length % within:
                raise ValueError(f"{list(shape)} is not a part of {list(whole)}")
            forms.append((*before, length // within, within, *after))
        along = self._along()
        alike = len({form[:along] + form[along + 1 :] for form in forms}) == 1
        if not alike or sum(math.prod(form) for form in forms) != math.prod(whole):
            raise ValueError(f"{len(parts)} parts do not make {list(whole)}")
        return forms


def library(arrays: Sequence[Any]) -> Any:
    """What arrays are put together with: numpy where all are its own."""
    return np if all(isinstance(one, np.ndarray) for one in arrays) else jnp


def told(layout: Layout, parts: int) -> str:
    """A layout in words; "" where the arrays are cut into axes alike, or at other places alone."""
    words = []
    if parts > 1:
        how = "side by side" if layout.inner is None else "in turns"
        words.append(f"{parts} {how} along axis {layout.axis}")
    words += [
        f"{what} with axes {', '.join(map(str, order))}"
        for what, order in (("taken", layout.turned), ("the whole", layout.whole_turned))
        if order is not None
    ]
    return ", ".join(words)


def _turn(array: Any, order: tuple[int, ...] | None) -> Any:
    return array if order is None else array.transpose(order)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))
