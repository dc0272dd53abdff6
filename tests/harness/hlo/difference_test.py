import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from harness import hlo


def make(
    epsilon: float = 1e-5, extra_cast: bool = False, shard: bool = True, scope: str = "mlp"
) -> str:
    """The gradient of three scanned layers over 8 devices, weights sharded on their rows."""
    mesh = Mesh(np.array(jax.devices()), ("fsdp",))

    def layer(h: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        with jax.named_scope(f"decoder/layers/{scope}"):
            h = h * lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + epsilon)
            h = jnp.tanh(h @ w)
            return (h.astype(jnp.bfloat16).astype(jnp.float32) if extra_cast else h), None

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(lax.scan(layer, x, w)[0])

    def shape(dimensions: tuple[int, ...], *spec: str | None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dimensions, "float32", sharding=NamedSharding(mesh, P(*spec)))

    w = shape((3, 32, 32), None, "fsdp" if shard else None)
    return jax.jit(jax.grad(loss)).lower(w, shape((64, 32), "fsdp")).compile().as_text() or ""


@pytest.fixture(scope="module")
def original() -> str:
    return make()


def shuffled(text: str, seed: int) -> str:
    """The same graph under other names, its instructions in another order, without metadata."""
    shuffle = random.Random(seed)
    names = sorted(set(re.findall(r"%([\w.-]+)", text)))
    renamed = dict(zip(names, shuffle.sample(range(len(names)), len(names)), strict=True))
    lines: list[str] = []
    waiting: list[str] = []
    for line in re.sub(r"%([\w.-]+)", lambda name: f"%v{renamed[name[1]]}", text).split("\n"):
        if line.startswith("  "):
            waiting.append(re.sub(r", metadata=\{[^{}]*\}", "", line))
            continue
        lines += _reordered(waiting, shuffle)
        waiting = []
        lines.append(re.sub(r"HloModule \w+", "HloModule other", line))
    return re.sub(r"channel_id=(\d+)", r"channel_id=9\1", "\n".join(lines))


def _reordered(lines: list[str], shuffle: random.Random) -> list[str]:
    """A random order in which every instruction still follows its operands."""
    names = [re.findall(r"%(\w+)", line) for line in lines]
    local = {found[0] for found in names}
    order: list[int] = []
    done: set[str] = set()
    while len(order) < len(lines):
        ready = [
            index
            for index, (name, *others) in enumerate(names)
            if name not in done and local.intersection(others) <= done
        ]
        order.append(shuffle.choice(ready))
        done.add(names[order[-1]][0])
    return [lines[index] for index in order]


@pytest.mark.parametrize("seed", range(3))
def test_names_order_metadata_and_numbers_do_not_count(original: str, seed: int) -> None:
    other = shuffled(original, seed)
    assert other != original
    a, b = hlo.parse(original), hlo.parse(other)
    assert hlo.canonical(a) == hlo.canonical(b)
    assert hlo.fingerprint(a) == hlo.fingerprint(b)
    assert hlo.diff(a, b) == []


def test_scopes_and_source_lines_do_not_count(original: str) -> None:
    assert hlo.diff(hlo.parse(original), hlo.parse(make(scope="other"))) == []


def test_another_epsilon_is_named(original: str) -> None:
    (found,) = hlo.diff(hlo.parse(original), hlo.parse(make(epsilon=1e-6)))
    assert (found.opcode, found.detail) == ("constant", "value 1e-05 -> 1e-06")
    assert "decoder/layers/mlp" in found.where
    assert "constant f32[] at decoder/layers/mlp" in str(found)


def test_an_extra_cast_is_named(original: str) -> None:
    found = hlo.diff(hlo.parse(original), hlo.parse(make(extra_cast=True)))
    casts = [one for one in found if one.opcode == "convert" and one.shape.startswith("bf16")]
    assert casts
    assert all(one.count_a == 0 and one.count_b > 0 for one in casts)
    assert any("decoder/layers/mlp" in one.where for one in casts)


def test_a_lost_sharding_is_named_by_its_collectives_first(original: str) -> None:
    found = hlo.diff(hlo.parse(original), hlo.parse(make(shard=False)))
    operations = [one for one in found if one.opcode != "module"]
    gathers = [one for one in operations if one.opcode == "all-gather"]
    assert operations[0].opcode in ("all-gather", "all-reduce")
    assert gathers
    assert all(one.count_a > one.count_b == 0 for one in gathers)
    assert any("decoder/layers/mlp" in one.where for one in gathers)


def test_the_difference_of_a_and_b_mirrors_that_of_b_and_a(original: str) -> None:
    a, b = hlo.parse(original), hlo.parse(make(extra_cast=True))
    forward = {(d.opcode, d.shape, d.where, d.count_a, d.count_b) for d in hlo.diff(a, b)}
    backward = {(d.opcode, d.shape, d.where, d.count_b, d.count_a) for d in hlo.diff(b, a)}
    assert forward == backward


PROGRAM = """HloModule m, num_partitions=8, frontend_attributes={fingerprint_before_lhs="1",a="b"}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

ENTRY %e (x: f32[8,4], y: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0), sharding={devices=[8,1]<=[8]}
  %y = f32[8,4]{1,0} parameter(1)
  %c = f32[] constant(2)
  %d = f32[8,4]{1,0:T(8,128)S(1)} subtract(%x, %y), metadata={op_name="jit(f)/mlp/sub"}
  %g = f32[8,4]{1,0} all-reduce(%d), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%sum, frontend_attributes={chain_id="3",async_collective_name="all-gather-start.1"}, backend_config={"barrier_config":{"id":"1"},"emitter":"Ring","window_config":{"estimated_cycles":"7"}}
  %k = f32[8,4]{1,0} custom-call(%g), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"QUJD","needs_layout_passes":true}}
  %p = f32[8,4]{1,0} broadcast(%c), dimensions={}
  ROOT %r = f32[8,4]{1,0} multiply(%k, %p), metadata={op_name="jit(f)/mlp/mul"}
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "subtract(%x, %y)",
            "subtract(%y, %x)",
            "subtract f32[8,4] at mlp: 1 -> 1; wired otherwise",
        ),
        ("subtract(", "add(", "subtract f32[8,4] at mlp: 1 -> 0"),
        ("constant(2)", "constant(3)", "value 2 -> 3"),
        ("S(1)", "", "shape f32[8,4]{1,0:T(8,128)S(1)} -> f32[8,4]{1,0:T(8,128)}"),
        (
            "[1,8]<=[8]",
            "[2,4]<=[8]",
            "replica_groups [[0, 1, 2, 3, 4, 5, 6, 7]] -> [[0, 1, 2, 3], ",
        ),
        ("Ring", "Tree", "backend_config.emitter Ring -> Tree"),
        ('cycles":"7', 'cycles":"9', "cycles 7 -> 9"),
        ("QUJD", "QUJE", "backend_config.custom_call_config.body"),
        ("sharding={devices=[8,1]<=[8]}", "sharding={replicated}", "sharding"),
        ("add(%a, %b)", "maximum(%a, %b)", "add f32[] at mlp: 1 -> 0"),
        ("channel_id=1, ", "", "channel_id * -> none"),
        ('chain_id="3",', "", "frontend_attributes"),
        ("num_partitions=8", "num_partitions=16", "module num_partitions: 1 -> 1; 8 -> 16"),
        ("m, num", "m, input_output_alias={ {}: (0, {}, may-alias) }, num", "input_output_alias"),
        ("%p = f32", "%q = f32[8,4]{1,0} broadcast(%c), dimensions={}\n  %p = f32", "1 -> 2"),
    ],
)
def test_whatever_matters_changes_the_fingerprint_and_is_named(
    old: str, new: str, named: str
) -> None:
    assert old in PROGRAM
    a, b = hlo.parse(PROGRAM), hlo.parse(PROGRAM.replace(old, new))
    assert hlo.fingerprint(a) != hlo.fingerprint(b)
    found = [str(difference) for difference in hlo.diff(a, b)]
    assert any(named in line for line in found), found
    assert not any("\n" in line for line in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("HloModule m", "HloModule other, is_scheduled=true"),
        ("channel_id=1", "channel_id=5"),
        ('chain_id="3"', 'chain_id="4"'),
        ('"id":"1"', '"id":"6"'),
        ('"emitter":"Ring","window', '"retry_config":{"retry_count":"2"},"emitter":"Ring","window'),
        ("[1,8]<=[8]", "{{0,1,2,3,4,5,6,7}}"),
        ("[1,8]<=[8]", "mesh['fsdp'=8] {'fsdp'}"),
        ("jit(f)/mlp/sub", "jit(g)/other/sub"),
        ("%d", "%renamed.7"),
        (
            'frontend_attributes={fingerprint_before_lhs="1",',
            'frontend_attributes={fingerprint_before_lhs="2",',
        ),
        ('async_collective_name="all-gather-start.1"', 'async_collective_name="x"'),
        ("sharding={devices=[8,1]<=[8]}", 'sharding={devices=[8,1]<=[8] metadata={op_name="x"}}'),
    ],
)
def test_whatever_does_not_matter_leaves_the_fingerprint(old: str, new: str) -> None:
    assert old in PROGRAM
    other = hlo.parse(PROGRAM.replace(old, new))
    assert hlo.fingerprint(hlo.parse(PROGRAM)) == hlo.fingerprint(other)


def test_two_equal_operations_are_not_one() -> None:
    once = PROGRAM.replace("multiply(%k, %p)", "multiply(%k, %k)")
    second = re.sub(r"( *)%k = (.*)\n", r"\g<0>\1%k2 = \2\n", once)
    twice = second.replace("multiply(%k, %k)", "multiply(%k, %k2)")
    (found,) = hlo.diff(hlo.parse(once), hlo.parse(twice))
    assert (found.opcode, found.count_a, found.count_b) == ("custom-call", 1, 2)


CALLS = """HloModule m

%one (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%a)
}

%two (b: f32[4]) -> f32[4] {
  %b = f32[4]{0} parameter(0)
  ROOT %m = f32[4]{0} negate(%b)
}

ENTRY %e (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %y = f32[4]{0} call(%x), to_apply=%one
  ROOT %z = f32[4]{0} call(%y), to_apply=%two
}
"""


def test_an_operation_that_no_result_needs_counts_as_well() -> None:
    logs = (
        '%l = token[] custom-call(%b), custom_call_target="log", custom_call_has_side_effect=true'
    )
    logging = CALLS.replace("  ROOT %m", f"  {logs}\n  ROOT %m")
    (found,) = hlo.diff(hlo.parse(CALLS), hlo.parse(logging))
    assert (found.opcode, found.count_a, found.count_b) == ("custom-call", 0, 1)
