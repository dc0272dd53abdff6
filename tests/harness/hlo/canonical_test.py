import re

import pytest

from harness import hlo
from harness.hlo.canonical import build, canonical, fingerprint

PROGRAM = """HloModule m

ENTRY %e (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %one = f32[8]{0} constant({1, 1, 1, 1, 1, 1, 1, 1}), metadata={op_name="jit(f)/mlp/add"}
  %sum = f32[8]{0} add(%p, %one), metadata={op_name="jit(f)/mlp/add"}
  ROOT %twice = f32[8]{0} multiply(%sum, %sum), metadata={op_name="jit(f)/mlp/mul"}
}
"""


def test_the_canonical_form_has_what_is_computed_and_no_names() -> None:
    text = canonical(hlo.parse(PROGRAM))
    for word in ("add", "multiply", "f32[8]"):
        assert word in text
    for name in ("%sum", "twice", "op_name", "mlp"):
        assert name not in text


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("%sum", "%other", True),
        ("mlp", "attention", True),
        ("HloModule m", "HloModule n", True),
        ("HloModule m", "HloModule m, is_scheduled=true", True),
        ("add(%p, %one)", "add(%one, %p)", False),
        ("multiply(%sum, %sum)", "multiply(%sum, %p)", False),
        ("{1, 1,", "{2, 1,", False),
        ("f32", "bf16", False),
        ("{0}", "{0:T(256)}", False),
    ],
)
def test_the_fingerprint_tells_the_graph(old: str, new: str, same: bool) -> None:
    assert old in PROGRAM
    fingerprints = [fingerprint(hlo.parse(text)) for text in (PROGRAM, PROGRAM.replace(old, new))]
    assert (fingerprints[0] == fingerprints[1]) == same
    assert re.fullmatch("[0-9a-f]{64}", fingerprints[0])


def test_each_node_knows_its_place_and_what_feeds_it() -> None:
    graph = build(hlo.parse(PROGRAM))
    nodes = {node.instruction.name: node for node in graph.nodes[graph.entry]}
    assert nodes["twice"].where == "mlp"
    assert nodes["twice"].operands == (nodes["sum"].digest,) * 2
    assert len({node.digest for node in nodes.values()}) == 4
