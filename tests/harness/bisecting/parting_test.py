"""Where two computations part, in toys of a few operations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.bisecting import parting
from harness.bisecting.capture import Trace, capture


def test_distance_counts_the_numbers_between() -> None:
    a = np.asarray([1.0, 2.0, -0.0, 3.0], np.float32)
    b = np.asarray([np.nextafter(np.float32(1), np.float32(2)), 2.0, 0.0, 3.0], np.float32)
    found = parting.distance(a, b)
    assert found is not None
    assert (found.equal, found.size, found.ulps) == (2, 4, 1)
    assert parting.distance(a, a.astype(np.float64)) is None
    nothing_equal = parting.distance(a, np.full(4, np.nan, np.float32))
    assert nothing_equal is not None
    assert nothing_equal.ulps is None


PARAMS = {"h_0": {"w": jnp.eye(3)}, "h_1": {"w": 2 * jnp.eye(3)}}
TOKENS = jnp.asarray([0.5, 1.0, 2.0])


def traced(between: Any = lambda x: x, update: float = 1.0) -> Trace:
    """Two layers, with something between them, and what a step makes of them."""

    def step(params: Any, tokens: jax.Array) -> dict[str, Any]:
        def loss(params: Any) -> jax.Array:
            with jax.named_scope("h_0"):
                x = jnp.tanh(tokens @ params["h_0"]["w"])
            x = between(x)
            with jax.named_scope("h_1"):
                return jnp.sum(jnp.tanh(x @ params["h_1"]["w"]))

        value, gradients = jax.value_and_grad(loss)(params)
        updates = jax.tree.map(lambda g: update * g, gradients)
        return {"loss": value, "gradients": gradients, "updates": updates}

    return capture(step, PARAMS, TOKENS)


def parted(a: Trace, b: Trace) -> parting.Parting | None:
    return parting.part(a, b, {"h_0/w": None, "h_1/w": None})


def test_equal_computations_do_not_part() -> None:
    assert parted(traced(), traced(lambda x: x.reshape(1, 3).reshape(3))) is None


def test_an_operation_that_one_side_has_more_is_found() -> None:
    found = parted(traced(), traced(lambda x: x * 1.5))
    assert found is not None
    assert (found.kind, found.tensor, found.layer) == ("activations", "h_1/w", 1)
    assert found.a is not None
    assert found.b is not None
    assert (found.a.operation, found.b.operation) == ("dot_general", "mul")


def test_what_takes_no_parameter_is_told_by_its_neighbours() -> None:
    found = parted(traced(lambda x: x + 0.25), traced(lambda x: x - 0.25))
    assert found is not None
    assert found.tensor == "after h_0/w, before h_1/w"


def test_an_update_that_differs_is_named() -> None:
    found = parted(traced(), traced(update=3.0))
    assert found is not None
    assert (found.kind, found.tensor, found.layer) == ("updates", "h_0/w", 0)


def test_rows_tell_which_tensors_are_equal() -> None:
    a, b = traced(), traced(update=3.0)
    axes: dict[str, int | None] = {"h_0/w": None, "h_1/w": None}
    assert [row.distance for row in parting.rows(a, b, "gradients", axes)] == [None, None]
    assert all(row.distance is not None for row in parting.rows(a, b, "updates", axes))
    activations = parting.rows(a, b, "activations", axes)
    assert [(row.tensor, row.layer) for row in activations] == [("h_0/w", 0), ("h_1/w", 1)]


def test_a_layer_is_that_of_the_scan_or_of_the_path() -> None:
    node = traced().nodes[0]
    assert parting.layer_of(node, "decoder/h_12/mlp") == 12
    assert parting.layer_of(node, "decoder/mlp") is None
