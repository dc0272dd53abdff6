"""Numbers laid out otherwise, there and back."""

import numpy as np
import pytest

from models.pairing import links
from models.pairing.layouts import Layout
from models.pairing.links import Link


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


QUERY, KEY = numbers(3, 2, 4), 100 + numbers(3, 2, 4)  # [D, N, H]


@pytest.mark.parametrize(
    ("layout", "parts", "whole"),
    [
        (Layout(), [QUERY], QUERY.reshape(3, 8)),
        (Layout(turned=(1, 2, 0)), [QUERY], QUERY.reshape(3, 8).T),
        (Layout(whole_turned=(2, 0, 1)), [numbers(3, 8)], numbers(3, 2, 4).transpose(1, 2, 0)),
        (
            Layout(axis=1),
            [QUERY, KEY],
            np.concatenate([QUERY.reshape(3, 8), KEY.reshape(3, 8)], axis=1),
        ),
        (Layout(axis=1), [QUERY, KEY], np.stack([QUERY, KEY], axis=1).reshape(3, 16)),
        (Layout(axis=1, inner=2), [QUERY, KEY], np.stack([QUERY, KEY], axis=2).reshape(3, 16)),
        (Layout(axis=0), [QUERY, KEY], np.stack([QUERY, KEY])),
        (
            Layout(axis=0, turned=(1, 0)),
            [numbers(3, 8), numbers(3, 4)],
            np.concatenate([numbers(3, 8).T, numbers(3, 4).T]),
        ),
    ],
)
def test_parts_make_a_whole_and_are_found_in_it(
    layout: Layout, parts: list[np.ndarray], whole: np.ndarray
) -> None:
    shapes = [part.shape for part in parts]
    assert layout.fits(shapes, whole.shape)
    np.testing.assert_array_equal(layout.join(parts, whole.shape), whole)
    for part, found in zip(parts, layout.split(whole, shapes), strict=True):
        np.testing.assert_array_equal(found, part)


def test_what_does_not_fit() -> None:
    assert not Layout(axis=1).fits([(3, 8), (3, 8)], (3, 17))
    assert not Layout(axis=1).fits([(3, 5), (2, 8)], (3, 7))
    assert not Layout().fits([(3, 8)], (3, 9))
    assert not Layout(axis=1, inner=2).fits([(8, 2, 4), (2, 4, 8)], (8, 16))  # 4 and 8 in turns


def test_layers_of_a_list_are_those_of_a_stack() -> None:
    a = {"h_0/w": numbers(2, 3), "h_1/w": 10 + numbers(2, 3)}
    link = Link((("h_0/w", "h_1/w"),), (("layers/w",),), "value", Layout(turned=(0, 2, 1)))
    made = links.to_b([link], a, {"layers/w": (2, 3, 2)})
    np.testing.assert_array_equal(made["layers/w"][1], a["h_1/w"].T)
    back = links.to_a([link], made, {path: one.shape for path, one in a.items()})
    assert all((back[path] == one).all() for path, one in a.items())


def test_more_layers_follow_those_of_the_small_model() -> None:
    small = [
        Link((("Dense_0/kernel", "Dense_2/kernel"),), (("layers/up",),), "value"),
        Link((("norm_1/scale",),), (("norms/0/scale",),), "value"),
        Link((("norm_2/scale",),), (("norms/1/scale",),), "order"),
    ]
    a = {f"Dense_{n}/kernel": (2,) for n in (0, 2, 4)} | {
        f"norm_{n}/scale": (2,) for n in (1, 2, 3)
    }
    b = {"layers/up": (3, 2)} | {f"norms/{n}/scale": (2,) for n in range(3)}
    found = {link.b[0][0]: link.a for link in links.extended(small, a, b)}
    assert found["layers/up"] == (("Dense_0/kernel", "Dense_2/kernel", "Dense_4/kernel"),)
    assert found["norms/2/scale"] == (("norm_3/scale",),)
    with pytest.raises(links.Unlearnt, match="head: nothing like it"):
        links.extended(small, {**a, "head": (2,)}, b)
    with pytest.raises(links.Unlearnt, match="is no longer what"):
        links.extended(small, a, {**b, "layers/up": (4, 2)})
