"""Where tensors lie, and how they move, on eight devices."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from models.shared import partitioning

RULES: partitioning.Rules = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "mlp": "tensor",
    "norm": None,
    "vocab": "tensor",
    "embed_vocab": "fsdp",
}
ALONE: partitioning.Rules = dict.fromkeys(("batch", "embed", "embed_vocab"), "fsdp") | {
    "mlp": None,
    "norm": None,
    "vocab": None,
}


@pytest.fixture
def on_three_axes() -> Iterator[None]:
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3)
    with jax.set_mesh(mesh), partitioning.axis_rules(RULES):
        yield


@pytest.fixture
def on_two_axes() -> Iterator[None]:
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), (AxisType.Auto,) * 2)
    with jax.set_mesh(mesh), partitioning.axis_rules(RULES):
        yield


@pytest.fixture
def on_one_axis() -> Iterator[None]:
    mesh = jax.make_mesh((8,), ("fsdp",), (AxisType.Auto,))
    with jax.set_mesh(mesh), partitioning.axis_rules(ALONE):
        yield


def lies(compute: Callable[..., Any], *arguments: jax.Array) -> PartitionSpec:
    """Where the result of a program lies."""
    return jax.jit(compute)(*arguments).sharding.spec


def test_rules_turn_logical_axes_into_mesh_axes() -> None:
    spec = partitioning.partition_spec(("batch", "norm", "mlp"), RULES)
    assert spec == PartitionSpec(("data", "fsdp"), None, "tensor")
    with pytest.raises(KeyError, match="no_such"):
        partitioning.partition_spec(("no_such",), RULES)
    with pytest.raises(ValueError, match=r"its axes batch, embed, mlp lie on fsdp twice"):
        partitioning.partition_spec(("batch", "embed", "mlp"), RULES)


def test_a_rule_is_one_axis_several_or_none() -> None:
    rules: list[str | tuple[str, ...] | None] = ["fsdp", ("data", "fsdp"), None]
    assert [partitioning.mesh_axes(rule) for rule in rules] == [("fsdp",), ("data", "fsdp"), ()]


def test_rules_are_in_force_inside_alone() -> None:
    with partitioning.axis_rules(RULES):
        with partitioning.axis_rules(ALONE):
            assert partitioning._RULES.get() is ALONE
        assert partitioning._RULES.get() is RULES
    with pytest.raises(LookupError):
        partitioning._RULES.get()


def test_without_a_mesh_everything_is_the_identity() -> None:
    x = jnp.ones((2, 4))
    with partitioning.axis_rules(RULES):
        assert partitioning.constrain(x, ("batch", "embed")) is x
        assert partitioning.constrain_evenly(x, ("batch", "embed")) is x
        assert partitioning.gather(x, ("embed", "mlp")) is x
        assert partitioning.map_over_batch(lambda one: one, x) is x
        assert not partitioning.is_sharded("embed")
        assert partitioning.scatter_sum(lambda one: one, (x,), ("embed", "mlp")) is x


@pytest.mark.usefixtures("on_three_axes")
def test_a_tensor_is_held_where_its_axes_say() -> None:
    x = jnp.ones((4, 6, 8))
    held = lies(lambda x: partitioning.constrain(x, ("batch", "norm", "mlp")), x)
    assert held == PartitionSpec(("data", "fsdp"), None, "tensor")
    assert partitioning.is_sharded("embed")
    assert not partitioning.is_sharded("norm")


@pytest.mark.usefixtures("on_three_axes")
def test_an_axis_that_its_devices_cannot_divide_stays_whole() -> None:
    def held(x: jax.Array) -> jax.Array:
        return partitioning.constrain_evenly(x, ("batch", "mlp"))

    assert lies(held, jnp.ones((4, 8))) == PartitionSpec(("data", "fsdp"), "tensor")
    assert lies(held, jnp.ones((4, 7))) == PartitionSpec(("data", "fsdp"))
    assert lies(held, jnp.ones((6, 8))) == PartitionSpec(None, "tensor")


@pytest.mark.usefixtures("on_three_axes")
def test_nothing_lies_on_axes_that_are_divided_by_hand() -> None:
    assert partitioning.lies_on("batch") == ("data", "fsdp")
    with partitioning.by_hand({"data", "tensor"}):
        assert partitioning.lies_on("batch") == ("fsdp",)
        assert partitioning.lies_on("mlp") == ()
    assert partitioning.lies_on("mlp") == ("tensor",)


@pytest.mark.usefixtures("on_three_axes")
def test_what_is_mapped_may_be_divided_along_more_than_the_batch() -> None:
    x = jnp.arange(32.0).reshape(4, 8)
    seen = []

    def doubled(x: jax.Array) -> jax.Array:
        seen.append(x.shape)
        return 2 * x

    mapped = jax.jit(lambda x: partitioning.map_over_batch(doubled, x, axes=("batch", "mlp")))
    np.testing.assert_array_equal(mapped(x), 2 * np.asarray(x))
    assert seen == [(1, 4)]


@pytest.mark.usefixtures("on_three_axes")
def test_inside_of_what_is_mapped_the_other_axes_are_mapped() -> None:
    seen = []

    def doubled(x: jax.Array) -> jax.Array:
        seen.append(x.shape)
        return 2 * x

    def inside(x: jax.Array) -> jax.Array:
        with partitioning.by_hand({"data"}):
            return partitioning.map_over_batch(doubled, x)

    over = PartitionSpec("data")
    mapped = jax.shard_map(inside, in_specs=over, out_specs=over, axis_names={"data"})
    x = jnp.arange(32.0).reshape(8, 4)
    np.testing.assert_array_equal(jax.jit(mapped)(x), 2 * np.asarray(x))
    assert seen == [(2, 4)]


@pytest.mark.usefixtures("on_three_axes")
def test_gathering_leaves_divided_what_the_batch_does_not_divide() -> None:
    kernel = jnp.ones((8, 4))
    assert lies(lambda x: partitioning.gather(x, ("embed", "mlp")), kernel) == PartitionSpec(
        None, "tensor"
    )
    scale = jnp.ones((8, 1))  # shared along mlp
    assert lies(lambda x: partitioning.gather(x, ("embed", "mlp")), scale) == PartitionSpec()
    # Also where nothing goes backward.
    for gathered in (partitioning.gather, partitioning.whole):
        traced = jax.make_jaxpr(lambda x, gathered=gathered: gathered(x, ("embed", "mlp")))(kernel)
        assert "sharding_constraint" in str(traced)


@pytest.mark.usefixtures("on_three_axes")
def test_the_gradient_of_a_gathered_weight_is_left_where_its_axes_say() -> None:
    slope = jax.grad(lambda kernel: partitioning.whole(kernel, ("embed", "mlp")).sum())
    assert lies(slope, jnp.ones((8, 4))) == PartitionSpec("fsdp", "tensor")


@pytest.mark.usefixtures("on_one_axis")
@pytest.mark.parametrize(
    ("axes", "by_hand"),
    [(("embed", "mlp"), True), (("mlp", "embed"), False), (("embed_vocab", "vocab"), False)],
)
def test_a_sum_over_the_batch_is_scattered_to_where_it_lies(
    axes: tuple[str, str], by_hand: bool
) -> None:
    generator = np.random.default_rng(0)
    x, g = (jnp.asarray(generator.integers(-9, 9, (8, 16)), jnp.float32) for _ in range(2))

    def product(x: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.einsum("bk,bm->km", x, g)

    def scattered(x: jax.Array, g: jax.Array) -> jax.Array:
        return partitioning.scatter_sum(product, (x, g), axes)

    lowered = jax.jit(scattered).lower(x, g)
    found = lowered.compile()(x, g)
    spec = partitioning.partition_spec(axes, ALONE)
    assert found.sharding.is_equivalent_to(jax.NamedSharding(jax.sharding.get_mesh(), spec), 2)
    np.testing.assert_array_equal(found, product(x, g))
    assert ("reduce_scatter" in lowered.as_text()) == by_hand


@pytest.mark.usefixtures("on_three_axes")
def test_on_several_axes_the_compiler_scatters() -> None:
    x = jnp.ones((8, 16))

    def scattered(x: jax.Array) -> jax.Array:
        return partitioning.scatter_sum(lambda x: x.T @ x, (x,), ("embed", "mlp"))

    lowered = jax.jit(scattered).lower(x)
    assert "reduce_scatter" not in lowered.as_text()
    assert lowered.compile()(x).sharding.spec == PartitionSpec("fsdp", "tensor")


@pytest.mark.parametrize(
    ("devices", "rows", "by_hand"),
    [("on_two_axes", 8, True), ("on_two_axes", 1, False), ("on_three_axes", 8, False)],
)
def test_groups_of_devices_add_up_their_own_rows_of_a_table(
    devices: str, rows: int, by_hand: bool, request: pytest.FixtureRequest
) -> None:
    """Not of a batch that they cannot divide, nor where the mesh divides more than the batch."""
    request.getfixturevalue(devices)
    table = jnp.arange(64.0).reshape(16, 4)
    tokens = jnp.arange(3 * rows).reshape(rows, 3) % 5
    weights = jnp.arange(12.0 * rows).reshape(rows, 3, 4)

    def loss(look_up: Callable[[jax.Array, jax.Array], jax.Array], table: jax.Array) -> jax.Array:
        return jnp.sum(look_up(partitioning.constrain(table, ("norm", "embed")), tokens) * weights)

    def ours(table: jax.Array, tokens: jax.Array) -> jax.Array:
        return partitioning.look_up(table, tokens, jnp.float32)

    plain = jax.grad(partial(loss, lambda table, tokens: table[tokens]))(table)
    gradient = jax.jit(jax.grad(partial(loss, ours)))
    np.testing.assert_array_equal(gradient(table), plain)
    assert ("manual" in gradient.lower(table).as_text()) == by_hand


@pytest.mark.usefixtures("on_one_axis")
def test_each_device_computes_its_own_part_of_the_batch() -> None:
    seen = []

    def doubled(x: jax.Array, y: jax.Array) -> jax.Array:
        seen.append((x.shape, y.shape))
        return x + y

    x = jnp.arange(16.0).reshape(16, 1)
    found = jax.jit(lambda x: partitioning.map_over_batch(doubled, x, x))(x)
    assert seen == [((2, 1), (2, 1))]
    assert found.sharding.spec == PartitionSpec("fsdp")
    np.testing.assert_array_equal(found, 2 * np.asarray(x))


@pytest.mark.parametrize("shape", [{"fsdp": 4}, {"fsdp": 2, "tensor": 2}])
def test_sequences_one_after_the_other_are_the_batch(shape: dict[str, int]) -> None:
    seen = []

    def function(x: jax.Array, y: jax.Array) -> jax.Array:
        seen.append(len(x))
        return jnp.tanh(x) * y

    x = jnp.arange(24.0).reshape(8, 3) / 24
    mesh = jax.make_mesh(tuple(shape.values()), tuple(shape), (AxisType.Auto,) * len(shape))
    rules = {"batch": "fsdp"}
    with jax.set_mesh(mesh), partitioning.axis_rules(rules):
        total = jax.jit(
            jax.value_and_grad(lambda x: partitioning.map_over_sequences(function, x, x).sum())
        )
        found = total(x)
    wanted = jax.value_and_grad(lambda x: (jnp.tanh(x) * x).sum())(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
    assert {*seen} == ({1} if "tensor" not in shape else {8})
    assert partitioning.map_over_sequences(function, x[:1], x[:1]).shape == (1, 3)
