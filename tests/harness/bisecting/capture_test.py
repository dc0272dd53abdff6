"""Every value of a function, and where it came from."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from harness.bisecting.capture import Node, capture, compiled

PARAMS = {"embed": jnp.eye(3), "layers": {"w": jnp.stack([2 * jnp.eye(3), 3 * jnp.eye(3)])}}
TOKENS = jnp.asarray([0, 2], jnp.int32)


def model(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
    def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        with jax.named_scope("mlp"):
            return x @ w, None

    x = params["embed"][tokens]
    x, _ = jax.lax.scan(jax.checkpoint(layer), x, params["layers"]["w"])
    return {"out": jax.jit(jnp.sum)(x)}


def test_the_outputs_are_those_of_the_function() -> None:
    trace = capture(model, PARAMS, TOKENS)
    assert trace.outputs.keys() == {"out"}
    np.testing.assert_array_equal(trace.outputs["out"].values, model(PARAMS, TOKENS)["out"])
    assert [node.order for node in trace.nodes] == list(range(len(trace.nodes)))


def test_what_no_output_needs_is_not_computed() -> None:
    def fresh(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        jax.random.normal(jax.random.key(0), (2,))
        return {"out": jnp.cos(params["w"])[tokens.min()]}

    names = [node.operation for node in capture(fresh, {"w": jnp.ones(2)}, TOKENS).nodes]
    assert "cos" in names
    assert not any("random" in name or name == "erf_inv" for name in names)


def test_layers_stand_apart_with_what_they_take() -> None:
    trace = capture(model, PARAMS, TOKENS)
    products = [node for node in trace.nodes if node.operation == "dot_general"]
    assert [node.at.layer for node in products] == [0, 1]
    assert all(node.parameters == {"layers/w"} and node.follows_tokens for node in products)
    assert all("mlp" in node.at.scope for node in products)
    assert all("capture_test.py" in node.at.source for node in products)
    np.testing.assert_array_equal(products[1].values, 6 * np.eye(3)[[0, 2]])


def test_a_parameter_is_handed_on_until_it_meets_the_tokens() -> None:
    def scaled(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        weight = params["w"].astype(jnp.bfloat16).T
        return {"out": jnp.sum(tokens @ weight) + jnp.sum(weight)}

    trace = capture(scaled, {"w": jnp.ones((2, 2))}, jnp.ones((2, 2), jnp.bfloat16))
    (product,) = [node for node in trace.nodes if node.operation == "dot_general"]
    assert product.parameters == {"w"}
    assert product.handed_on == frozenset()
    cast = next(node for node in trace.nodes if node.operation == "convert_element_type")
    assert (cast.follows_tokens, cast.handed_on) == (False, {"w"})


def test_equal_values_have_one_fingerprint_and_others_another() -> None:
    def three(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        return {"a": tokens + 1, "b": 1 + tokens, "c": (tokens + 1).astype(jnp.int16)}

    outputs = capture(three, {}, TOKENS).outputs
    assert outputs["a"].fingerprint == outputs["b"].fingerprint != outputs["c"].fingerprint


def test_the_branch_that_is_taken_is_walked_through() -> None:
    def branching(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        return {"out": jax.lax.cond(tokens[0] > 0, jnp.sin, jnp.cos, params["x"])}

    names = {node.operation for node in capture(branching, {"x": jnp.ones(2)}, TOKENS).nodes}
    assert "cos" in names
    assert "sin" not in names


def test_a_value_can_be_another_one_from_where_it_is_made() -> None:
    def doubled(params: dict, tokens: jax.Array) -> dict[str, jax.Array]:
        return {"out": jnp.sin(tokens * 2.0) + 1}

    def change(node: Node) -> jax.Array:
        return jnp.zeros_like(node.array) if node.operation == "sin" else node.array

    out = capture(doubled, {}, jnp.ones(2), change=change).outputs["out"]
    np.testing.assert_array_equal(out.values, [1, 1])


def test_one_program_keeps_the_same_values() -> None:
    one, other = capture(model, PARAMS, TOKENS), compiled(model, PARAMS, TOKENS)
    assert [(node.operation, node.at) for node in one.nodes] == [
        (node.operation, node.at) for node in other.nodes
    ]
    assert [node.fingerprint for node in one.nodes] == [node.fingerprint for node in other.nodes]
    assert one.outputs.keys() == other.outputs.keys()


def test_a_layout_over_a_mesh_that_is_not_there_leaves_a_value_as_it_is() -> None:
    def doubled(params: dict, x: jax.Array) -> dict[str, jax.Array]:
        with jax.sharding.use_abstract_mesh(
            jax.sharding.AbstractMesh((1,), ("fsdp",), (AxisType.Auto,))
        ):
            return {"y": jax.lax.with_sharding_constraint(2 * x, jax.sharding.PartitionSpec())}

    trace = capture(doubled, {}, jnp.arange(3.0))
    assert "sharding_constraint" in [node.operation for node in trace.nodes]
    np.testing.assert_array_equal(trace.outputs["y"].values, [0, 2, 4])
