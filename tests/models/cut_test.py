"""A tree of parameters parts into pieces and is put together again; layers keep their order."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from models.cut import Cut, at, placed, staged, without

CUT = Cut(("decoder", "layers"), ("decoder", "norm"), ("table",))
PARAMS: dict[str, Any] = {
    "table": jnp.zeros((5, 2)),
    "decoder": {"layers": {"w": jnp.arange(16).reshape(8, 1, 2)}, "norm": {"scale": jnp.ones(2)}},
}


def test_a_tree_parts_into_pieces_and_is_whole_again() -> None:
    layers, rest = at(PARAMS, CUT.layers), without(PARAMS, CUT.layers)
    assert layers is PARAMS["decoder"]["layers"]
    assert rest == {"table": PARAMS["table"], "decoder": {"norm": PARAMS["decoder"]["norm"]}}
    assert placed(rest, CUT.layers, layers) == PARAMS
    assert placed({}, CUT.norm, 1) == {"decoder": {"norm": 1}}
    assert without(PARAMS, CUT.table) == {"decoder": PARAMS["decoder"]}


@pytest.mark.parametrize("stages", [1, 2, 4, 8])
def test_every_split_over_stages_has_the_layers_in_one_order(stages: int) -> None:
    params = staged(PARAMS, CUT, stages)
    stack = at(params, CUT.layers)["w"]
    assert stack.shape == (8 // stages, stages, 2)
    layer = 5
    np.testing.assert_array_equal(stack[layer // stages, layer % stages], [10, 11])
    np.testing.assert_array_equal(
        at(staged(params, CUT, 1), CUT.layers)["w"], at(PARAMS, CUT.layers)["w"]
    )
    assert without(params, CUT.layers) == without(PARAMS, CUT.layers)
